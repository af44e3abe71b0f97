"""Ownership: what is made inside a store belongs to whom the store belongs to, whoever makes it.

Theory. The server and the operator's tool need not be the same user: mostly the one is a user of its own, and the other root. What root
makes in the directory for itself, the server cannot open at its next start. So it gets the user, the group and the rights of data.mdb.

Laws:

1. At once: before anything is written into it, and before LMDB opens it. A server that starts meanwhile can open it, too. (Rejected: to
   remove lock.mdb again at the end of a reader that made it. A server that started meanwhile has it open, and the next reader would
   make another: the two would not see each other.)
2. Only what the caller has just made is given away, by its descriptor: a link that somebody put there leads nowhere.
3. Nothing is asked for where nothing differs: in one's own store no right is needed. Who may not give a file away leaves none behind.

Rejected: to become the store's user (seteuid). He may not get through the directories above, where the store is a container's, nor
to the interpreter's own files.

It knows files; no row, no socket.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Owner:
    """To whom a store belongs, and who else may do what with it."""

    uid: int
    gid: int
    rights: int  # of data.mdb, as chmod takes them

    def give(self, fd: int, rights: int | None = None) -> None:
        """Let an open file or directory, just made, belong to the owner; `rights` if not those of its kind. Raises PermissionError."""
        status = os.fstat(fd)
        if rights is None:
            rights = self._rights_of(is_directory=stat.S_ISDIR(status.st_mode))
        if status.st_mode & 0o777 != rights:
            os.fchmod(fd, stat.S_IMODE(status.st_mode) & ~0o777 | rights)
        if (status.st_uid, status.st_gid) == (self.uid, self.gid):
            return
        try:
            os.fchown(fd, self.uid, self.gid)
        except PermissionError:
            if status.st_uid != self.uid:  # else only the group differs, and the owner can open it
                raise PermissionError(
                    f"the store belongs to user {self.uid}, and user {os.geteuid()} may make nothing for him in it: do this as that user, or as root"
                ) from None

    def _rights_of(self, *, is_directory: bool) -> int:
        """Return the rights of what is as open to others as data.mdb is: LMDB lets that be executable, which means nothing."""
        rights = self.rights & 0o666 | stat.S_IRUSR | stat.S_IWUSR
        return rights | (rights & 0o444) >> 2 if is_directory else rights

    def give_path(self, path: Path) -> None:
        """Do as `give` with what was just made by that name. Raises PermissionError, OSError if it is a link."""
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            self.give(fd)
        finally:
            os.close(fd)

    def make_directory(self, path: Path) -> None:
        """Make a directory. Raises PermissionError, OSError: then it is not there."""
        path.mkdir()
        try:
            self.give_path(path)
        except BaseException:
            path.rmdir()
            raise


def owner_of(directory: Path) -> Owner:
    """Return to whom a store belongs. Raises OSError if there is none."""
    status = (directory / "data.mdb").stat()
    return Owner(status.st_uid, status.st_gid, status.st_mode & 0o777)


def make_missing(directory: Path, name: str) -> None:
    """Make an empty file in a store if there is none by that name. Raises PermissionError if it cannot be given to the owner.

    If it cannot be made at all it is missing: whoever opens it says why.
    """
    path = directory / name
    if path.exists():
        return
    try:
        owner = owner_of(directory)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError:  # just made by somebody else, among others
        return
    try:
        owner.give(fd)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
