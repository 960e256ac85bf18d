"""The command `fedcomp-advise`: which codecs bring an update through a budget, and how well."""
