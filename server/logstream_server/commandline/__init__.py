"""Options, declared once: flags, variables, help, completion and the manual page are made from them."""
