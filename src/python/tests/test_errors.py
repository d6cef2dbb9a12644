"""Messages speak of calls, not of the command line."""

import numpy as np
import pytest
from conftest import near

import outskirt
from outskirt.errors import _in_python


def test_what_the_library_says_of_commands_is_said_of_calls(db, rng):
    vectors = near(rng, 3)[0]
    db.create_bank("bare", backbone="net", where="split = 'train'", k=3)
    for call, words in [
        (lambda: db.bank("bare").pvalue(vectors), "run db.bank('bare').calibrate(where) with held-out"),
        (lambda: db.append(vectors, backbone="net"), "give dataset="),
        (lambda: db.append(vectors, backbone="new", dataset="d"), "model_version= 'ViT-B-32/openai'"),
        (lambda: db.append(np.zeros((1, 24)), backbone="net", dataset="d", strict=True), "(strict=True stops here"),
        (lambda: db.create_bank("shop", backbone="net"), "db.bank('shop').drop() first"),
    ]:
        with pytest.raises(outskirt.Error) as refused:
            call()
        assert words in str(refused.value) and "--" not in str(refused.value), str(refused.value)


def test_commands_that_have_no_call_stay():
    kept = "run 'outskirt --db x migrate' (it takes a moment)"
    assert _in_python(kept) == kept
    assert _in_python("name another column with --into") == "name another column with column="
