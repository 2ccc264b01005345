"""Properties of the templates of ``jobs.tag_defaults``."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from daemon.text import is_plain, one_line, shortened
from daemon.training_job.tag_defaults import FACTS, Template

plain = st.text(max_size=300).filter(lambda text: text.strip() and is_plain(text))
alphabet = st.text(st.sampled_from('{}|":tagjobxy '), max_size=30)
facts = st.dictionaries(st.sampled_from([*FACTS, "tag:x", "tag:a y"]), plain)


def parsed(text: str) -> Template | str:
    """The template, or why it is refused."""
    try:
        return Template.parse(text)
    except ValueError as error:
        return str(error)


@given(plain)
def test_any_text_can_be_written_with_doubled_braces(text: str) -> None:
    template = Template.parse(text.replace("{", "{{").replace("}", "}}"))
    assert template.filled({}) == (shortened(one_line(text), 256), [])


@given(alphabet | plain, facts)
def test_a_template_is_refused_with_a_sentence_or_gives_what_a_tag_could_be(
    text: str, known: dict[str, str]
) -> None:
    template = parsed(text)
    if isinstance(template, str):
        assert template.startswith(("must not ", "has an unbalanced ", "has the unknown "))
        return
    value, lacking = template.filled(known)
    assert len(value) <= 256
    assert value == one_line(value)
    assert all(each.needs(frozenset()) for each in lacking)
    assert not lacking or "{" in text
