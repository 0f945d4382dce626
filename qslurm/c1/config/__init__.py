"""A center's configuration: settings, where they come from, and the platforms they name."""
