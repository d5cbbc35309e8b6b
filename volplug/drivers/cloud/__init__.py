"""What drivers of clouds share: calls over a network that fail, are throttled and hang.

It knows no SDK and no cloud; the import contracts in pyproject.toml keep it that way.
"""
