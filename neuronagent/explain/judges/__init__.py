"""Who answers questions about explanations: a model behind a server, or one in this process."""
