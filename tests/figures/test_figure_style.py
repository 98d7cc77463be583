from __future__ import annotations

import html

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuit_nb.figures import style


@pytest.mark.parametrize(
    ("token", "read", "exact"),
    [
        (" Dallas", "Dallas", "␣Dallas"),
        ("Dallas", "Dallas", "Dallas"),
        (" ", "␣", "␣"),
        ("  two", "␣two", "␣␣two"),
        ("end ", "end␣", "end␣"),
        ("\n", "⏎", "⏎"),
        (" \n", "␣⏎", "␣⏎"),
        ("", "", ""),
    ],
)
def test_tokens_are_shown_with_the_blanks_that_matter(token: str, read: str, exact: str) -> None:
    assert style.token_text(token) == read
    assert style.exact_token(token) == exact


def test_tokens_that_read_the_same_are_told_apart() -> None:
    assert style.distinct_tokens([" Austin", "Austin", " Texas"]) == ["␣Austin", "Austin", "Texas"]


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.982, "98.2 %"),
        (0.5, "50 %"),
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.0001, "< 0.1 %"),
        (-0.0001, "> −0.1 %"),
        (-1.0, "−100 %"),
        (float("nan"), "–"),
    ],
)
def test_shares_have_at_most_one_decimal(share: float, text: str) -> None:
    assert style.percent(share) == text


def test_numbers_have_three_significant_digits_and_a_real_minus() -> None:
    assert style.number(0.0123456) == "0.0123"
    assert style.number(-12.3456) == "−12.3"
    assert style.signed(1.0) == "+1"


@given(st.text())
def test_escaped_text_holds_no_markup_and_reads_back(text: str) -> None:
    for escaped in (style.plotly_text(text), style.html_text(text)):
        assert "<" not in escaped
        assert ">" not in escaped
        assert html.unescape(escaped) == style.visible(text)
    assert "$" not in style.plotly_text(text)
    assert '"' not in style.html_text(text)


def test_invisible_and_bidirectional_characters_are_made_visible() -> None:
    assert style.visible("a\u202eb\u200bc\n\x07") == "a\\u202eb\\u200bc⏎\\u0007"


@given(st.text(max_size=40), st.integers(1, 20))
def test_shortened_text_fits(text: str, length: int) -> None:
    assert len(style.shorten(text, length)) <= length
