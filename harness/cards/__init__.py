"""Spyre cards of this machine: which there are, who holds one, and leases, so that no two engines use the same.

``discovery.py`` finds them, ``holders.py`` sees which processes have one open, ``lease.py`` gives them out,
``harness/pytest_plugin/cards.py`` is what pytest knows of it. Where facts about cards come from: docs/hardware.md.
"""
