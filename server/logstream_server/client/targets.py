"""What `logstream tail` is to follow, opened as far as can be before anything is followed."""

from __future__ import annotations

import os

from logstream_server.errors import Problem, kept_in, refuse

from .addresses import lacks_scheme
from .tailoptions import TailOptions, is_url
from .trust import Access, open_access


def open_targets(options: TailOptions) -> dict[str, Access]:
    """How to come in, for each server. Raises SettingsError, with all that is wrong."""
    problems = [
        Problem("FILE|URL", each, f"is no file; for a server say http://{each}")
        for each in options.targets
        if lacks_scheme(each) and not os.path.lexists(each)
    ]
    accesses: dict[str, Access] = {}
    with kept_in(problems):
        urls = list(filter(is_url, options.targets))
        accesses = open_access(urls, options.token_file, options.ca_file, options.insecure)
    refuse(problems)
    return accesses
