"""`python -m neuronagent`."""

from neuronagent.cli import main

if __name__ == "__main__":
    main()
