"""The dispatcher's quantum runtimes: which execution goes to which, here and on other hosts."""
