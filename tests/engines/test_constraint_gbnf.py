"""GBNF: the language stays the grammar's own, and mistakes are told with line and column."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from random_schemas import Babbler

from hybrid_router.engines.llama.constraint import Constraints
from hybrid_router.engines.llama.gbnf import lark_of
from hybrid_router.engines.llama.seams import Form
from hybrid_router.engines.llama.weights import Weights
from hybrid_router.engines.settings import Offload
from hybrid_router.engines.task import TaskRefused

pytestmark = pytest.mark.model

SHOPPING = """
# what to buy
root     ::= "Buy:\\n" item+ total?
item     ::= "- " quantity " " thing "\\n"   # one line each
quantity ::= [1-9] [0-9]{0,2}
thing    ::= ( "apples" | "Brötchen" |
               "jam" )
total    ::= "= " quantity ("." [0-9]{2})? "\\n"
"""
SUM = 'root ::= term (op root)?\nterm ::= [0-9]+ | "(" root ")"\r\nop ::= [-+*/]\n'
OBJECT = r"""
root   ::= object
value  ::= object | array | string | "true" | "null" | [0-9]+
object ::= "{" ws (string ":" ws value ("," ws string ":" ws value)*)? "}"
array  ::= "[" ws (value ("," ws value)*)? "]"
string ::= "\"" ([^"\\\x7F\x00-\x1F] | "\\" ["\\/bfnrt])* "\""
ws     ::= | " "
"""


@pytest.fixture(scope="module")
def weights(model_path: Path) -> Iterator[Weights]:
    """The starter model's vocabulary alone."""
    opened = Weights(str(model_path), Offload(), vocabulary_only=True)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def constraints(weights: Weights) -> Constraints:
    return Constraints(weights)


def accepts(constraints: Constraints, grammar: str, text: str) -> bool:
    """Whether `text` is a whole answer of the grammar."""
    try:
        return constraints.compile(Form("gbnf", grammar), text).may_end
    except TaskRefused as refused:
        if refused.by_call:
            raise
        return False


@pytest.mark.parametrize(
    ("grammar", "inside", "outside"),
    [
        (SHOPPING, ["Buy:\n- 12 apples\n", "Buy:\n- 1 jam\n- 9 Brötchen\n= 7.50\n"], ["Buy:\n- 0 jam\n"]),
        (SUM, ["1", "12+(3*4)/5", "((7))"], ["", "1+", "(1", "1-(2)3"]),
        (OBJECT, ['{"a": [1, {}], "b":null}', "{}", '{"\\"": "é"}'], ["[", "{} ", '{"a"}', '{"\t":1}']),
        ('root ::= [a-z]* "z" "."', ["z.", "azz.", "pizza z.".replace(" ", "")], ["a.", "z"]),
        ('root ::= word "z."\nword ::= [a-z]*', ["z.", "azz."], ["a."]),
        ('root ::= "abc" | [a-z]+ "!"', ["abc", "abd!", "abc!", "ab!"], ["ab", "!"]),
        ('root ::= "\\u00e9\\x41\\U0001F600" [\\u4e00-\\u9fff]+', ["éA😀日本"], ["éA😀", "eA😀日"]),
        ('root ::= .{2} "x"', ["\n\nx", "日éx"], ["ax", "abcx"]),
        ('root ::= root "a" | "b"', ["b", "baaa"], ["a", ""]),
        ('root ::= "" | "x"{2}', ["", "xx"], ["x", "xxx"]),
        ("root ::= [^\\]a-c-]", ["d", "["], ["]", "b", "-"]),
        ('root ::= a-b aB a_b\na-b ::= "a"\naB ::= "b"\na_b ::= "c"', ["abc"], ["ab"]),
    ],
)  # fmt: skip
def test_a_grammar_means_what_it_says(
    constraints: Constraints, grammar: str, inside: list[str], outside: list[str]
) -> None:
    """Texts of the language are accepted to the end, others are not; characters are never swallowed ahead."""
    for text in inside:
        assert accepts(constraints, grammar, text), text
    for text in outside:
        assert not accepts(constraints, grammar, text), text


@pytest.mark.parametrize("grammar", [SHOPPING, SUM, OBJECT])
def test_answers_of_a_grammar_are_of_its_language(
    constraints: Constraints, weights: Weights, grammar: str
) -> None:
    """What is written by chance within a grammar, token by token, is one of its texts."""
    babbler = Babbler(weights, seed=3)
    for _ in range(5):
        tokens = babbler.write(constraints.compile(Form("gbnf", grammar)))
        assert accepts(constraints, grammar, babbler.text(tokens))


@pytest.mark.parametrize(
    ("grammar", "says"),
    [
        ("", "no rule 'root'"),
        ("start ::= \"a\"", "no rule 'root'"),
        ('root ::= "a" other', "no rule 'other'"),
        ("root = 1", "line 1, column 6: expected ::="),
        ('root ::= "a"\n\n  b ::= "c', "line 3, column 11: the grammar ends within quotes"),
        ('root ::= ("a"', "line 1, column 14: expected )"),
        ('root ::= "a" )', "line 1, column 14: expected the end of the rule"),
        ('root ::= "\\q"', "line 1, column 11: unknown escape"),
        ('root ::= "\\uD800"', "no such character"),
        ("root ::= [z-a]", "the range z-a is empty"),
        ("root ::= []", "matches nothing"),
        ('root ::= "a"{3,1}', "ends before it begins"),
        ('root ::= "a"{x}', "expected {m}, {m,} or {m,n}"),
        ('root ::= "a"{9999}', "more than 5000 times"),
        ("root ::= <think> .*", "tokens by name"),
        ("root ::= " + "(" * 30 + '"a"' + ")" * 30, "nested more than 25 deep"),
        ("".join(f'r{i} ::= "a"\n' for i in range(1001)), "more than 1000 rules"),
        ("%", "expected a rule's name"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_their_place(constraints: Constraints, grammar: str, says: str) -> None:
    """A wrong grammar is the call's fault, and its author is told where to look."""
    with pytest.raises(TaskRefused) as caught:
        constraints.compile(Form("gbnf", grammar))
    assert caught.value.by_call
    assert says in caught.value.message


def test_groups_as_deep_as_allowed_are_read_by_the_library(constraints: Constraints) -> None:
    """Our bound on nesting is within the library's."""
    grammar = "root ::= " + "(" * 25 + '"a"' + ")*" * 25
    assert lark_of(grammar).count("(") == 25
    assert accepts(constraints, grammar, "aa")
