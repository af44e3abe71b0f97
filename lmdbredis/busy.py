"""Busy."""

class Busy:
    def __init__(self, server):
        self.server = server
    def tick(self, *, is_first):
        return False
