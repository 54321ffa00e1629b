"""Errors whose message is one line that a user can act on."""


class NasError(Exception):
    """Something this package can explain in one line; the command line prints it and exits with 1."""

    exit_code = 1


class UserError(NasError):
    """The input was wrong: the message says where, what came and what was expected; exit code 2."""

    exit_code = 2


class DataError(UserError):
    """A data set cannot be read as given; names the file."""


class StorageError(NasError):
    """A database fails: away, locked, full, damaged; names the URL with its password hidden."""
