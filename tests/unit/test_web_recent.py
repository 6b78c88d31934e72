"""The cache of recent answers is bounded and returns what was made."""

from __future__ import annotations

from radir_pacs.web.recent import Recent


def test_it_is_made_once_while_it_is_kept_and_the_longest_unasked_goes_first() -> None:
    recent, made = Recent(most_bytes=30), []

    def ask(key: str, size: int = 10) -> bytes:
        def make() -> bytes:
            made.append(key)
            return key.encode() * size

        return recent.get(key, make)

    for key in ("a", "b", "c", "a", "b", "c"):
        assert ask(key) == key.encode() * 10
    assert made == ["a", "b", "c"]
    ask("a")
    ask("d")  # b has not been asked for the longest
    ask("a")
    ask("c")
    assert made == ["a", "b", "c", "d"]
    ask("b")
    assert made[4:] == ["b"]
    assert len(ask("e", 31)) == 31 and len(ask("e", 31)) == 31
    assert made[5:] == ["e", "e"], "what is larger than all that may be kept is not kept"
    assert recent._kept.currsize == sum(map(len, recent._kept.values())) <= 30
