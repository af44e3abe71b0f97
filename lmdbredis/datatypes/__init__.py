"""Datatypes: what each type is, as rows under an id. They know no reply, no option and no clock."""
