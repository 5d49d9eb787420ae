"""What the plots share: a figure for a paper has neither title nor footer."""

import numpy as np
from matplotlib.figure import Figure

from lmdbench.reporting.plots.figures import drawing
from lmdbench.reporting.plots.groups import draw_groups
from lmdbench.reporting.plots.style import take_caption, write_footer, write_title


@drawing()
def figure(words: bool) -> Figure:
    made = Figure(figsize=(5, 3), layout="constrained")
    axes = made.subplots()
    axes.plot([0, 1], [0, 1])
    axes.set_xlabel("x")
    if words:
        write_title(made, "What is shown", "of what " * 20)
        write_footer(made, "A sentence.", "", "Another one. " * 20)
    return made


def size_of_axes(made: Figure) -> np.ndarray:
    made.draw_without_rendering()
    return made.axes[0].get_window_extent().size


def test_without_its_caption_a_figure_is_what_it_was_before_it_was_written():
    made, never = figure(words=True), figure(words=False)
    with drawing():
        assert take_caption(made).startswith("What is shown\nof what of what")
        np.testing.assert_allclose(made.get_size_inches(), never.get_size_inches())
        np.testing.assert_allclose(size_of_axes(made), size_of_axes(never))
        assert take_caption(made) == ""
        np.testing.assert_allclose(made.get_size_inches(), never.get_size_inches())


def test_the_caption_holds_every_word_of_title_and_footer(made_block):
    block = made_block({"ce": 0.5, "lmd": 2.0})
    caption = take_caption(draw_groups(block)).split()
    assert caption[:2] == ["Recall", "by"]
    assert caption[-2:] == ["Seeds", "0–2."]
    assert " ".join(block.title.split()) in " ".join(caption)


def test_a_bare_figure_has_no_text_but_of_its_axes_and_legend(made_block, look):
    made = draw_groups(made_block({"ce": 0.5, "lmd": 2.0}))
    take_caption(made)
    (axes,) = made.axes
    own = [axes.get_ylabel(), *(label.get_text() for label in axes.get_xticklabels())]
    own += [label.get_text() for label in axes.get_yticklabels()] + ["ce", "lmd"]
    assert set(look(made)) <= {" ".join(text.split()) for text in own}
