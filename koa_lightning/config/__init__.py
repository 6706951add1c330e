"""The values a config may hold, how it is composed, and how a command starts."""
