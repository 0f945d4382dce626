"""The feed of C2's jobs: the gate lists them, the job manager keeps them by center, centers follow what changes."""
