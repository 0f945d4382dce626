"""The token service: key pairs of centers, and the tokens signed with them."""
