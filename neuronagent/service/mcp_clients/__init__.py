"""Entries for this server in the configuration files of MCP clients: where those lie, and how they are changed."""
