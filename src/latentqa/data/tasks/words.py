"""The article of an English word."""

from __future__ import annotations

import re


def article(word: str) -> str:
    """`a` or `an`, by the first sound as far as the letters tell.

    Example:
        >>> article("otter"), article("unicycle"), article("heir")
        ('an', 'a', 'an')
    """
    if re.match(r"heir|hour|honest", word, flags=re.IGNORECASE):
        return "an"
    if re.match(r"uni|use|eu|one\b", word, flags=re.IGNORECASE):
        return "a"
    return "an" if word[:1].lower() in "aeiou" else "a"
