"""The center's agent: it holds the token, sends what users submit, and knows whose job is whose."""
