"""Reading strangers' files: what is understood, and one clear line for what is not."""

import gzip
import os

import numpy as np
import pytest
from absl import logging
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

from geoemb.data import edge_list, hierarchy

DAG = "dog\tcanine\ncat\tfeline\ncanine\tanimal\nfeline\tanimal\n"


class EdgeListTest(parameterized.TestCase):
  @pytest.fixture(autouse=True)
  def _folder(self, tmp_path, monkeypatch):
    self.path = str(tmp_path / "edges.tsv")
    self.warnings = []
    monkeypatch.setattr(logging, "warning", lambda text, *args: self.warnings.append(text % args))

  def read(self, content, **kwargs):
    with open(self.path, "wb") as file:
      file.write(content.encode() if isinstance(content, str) else content)
    return edge_list.read(self.path, **kwargs)

  def error(self, content, **kwargs):
    """The message without the path, which it must start with."""
    with pytest.raises(edge_list.EdgeListError) as caught:
      self.read(content, **kwargs)
    message = str(caught.value)
    assert (
      message.startswith(self.path) and "\n" not in message and isinstance(caught.value, ValueError)
    )
    return message.removeprefix(self.path)

  def named(self, content, **kwargs):
    graph = self.read(content, **kwargs)
    return [(graph.names[u], graph.names[v]) for u, v in graph.edges]

  def test_names_are_numbered_as_they_appear_and_edges_sorted(self):
    graph = self.read("b\tz\na\tz\nb\ta\n")
    assert graph.names == ("b", "z", "a") and graph.weights is None
    np.testing.assert_array_equal(graph.edges, [[0, 1], [0, 2], [2, 1]])
    assert graph.edges.dtype == np.int32

  @parameterized.named_parameters(
    ("commas", DAG.replace("\t", ",")),
    ("blanks", DAG.replace("\t", " ")),
    ("runs_of_blanks", DAG.replace("\t", " \t ").replace("\t", "  ")),
    ("no_last_newline", DAG[:-1]),
    ("crlf", DAG.replace("\n", "\r\n")),
    ("crlf_no_last_lf", DAG.replace("\n", "\r\n")[:-1]),
    ("byte_order_mark", b"\xef\xbb\xbf" + DAG.encode()),
    ("gzip", gzip.compress(DAG.encode())),
    ("gzip_members", gzip.compress(DAG[:11].encode()) + gzip.compress(DAG[11:].encode())),
    ("comments", "# from to\n#\n" + DAG + "# end\n"),
    ("blank_lines", "\n\n" + DAG.replace("\n", "\n \t\n")),
    ("stray_blanks", DAG.replace("\t", " \t  ").replace("\n", "  \n")),
    ("quoted", '"' + DAG[:-1].replace("\t", '","').replace("\n", '"\n"') + '"\n'),
    ("header", "child\tparent\n" + DAG),
    ("header_other_words", "ID1,Id2\n" + DAG.replace("\t", ",")),
    ("header_after_comment", "# mine\n\nSource\tTarget\n" + DAG),
  )
  def test_is_the_same_graph(self, content):
    plain, other = self.read(DAG), self.read(content)
    assert other.names == plain.names
    np.testing.assert_array_equal(other.edges, plain.edges)
    assert not self.warnings

  def test_header_gives_the_order_of_columns(self):
    graph = self.read("weight,parent,child\n0.5,animal,dog\n2,animal,cat\n")
    assert graph.names == ("dog", "animal", "cat")
    np.testing.assert_array_equal(graph.edges, [[0, 1], [2, 1]])
    np.testing.assert_array_equal(graph.weights, np.array([0.5, 2], np.float32))

  def test_other_first_lines_are_data(self):
    assert self.named("worker\tboss\nann\tbob\n")[0] == ("worker", "boss")
    assert self.named("child\tperson\nparent\tperson\n")[0] == ("child", "person")

  @parameterized.parameters(
    ("New York\tUSA, North America\n", ("New York", "USA, North America")),
    ('5" pipe\t"pipe"\n', ('5" pipe', '"pipe"')),
    ('"Paris, Texas", "the ""US"""\n', ("Paris, Texas", 'the "US"')),
    ("naïve Ωmega\t\u4e2d\u6587\n", ("naïve Ωmega", "\u4e2d\u6587")),
    ("a\u2028b\tc\u0085d\n", ("a\u2028b", "c\u0085d")),
    ("1\t2\n", ("1", "2")),
  )
  def test_names_are_kept_as_written(self, content, edge):
    assert self.named(content) == [edge]

  def test_weights(self):
    graph = self.read("a b 1e-3\nc b 0\na c 7\n")
    np.testing.assert_array_equal(graph.edges, [[0, 1], [0, 2], [2, 1]])
    np.testing.assert_allclose(graph.weights, [1e-3, 7, 0])
    assert graph.weights.dtype == np.float32

  def test_repeated_edges_are_counted_and_keep_the_largest_weight(self):
    graph = self.read("a\tb\t1\nc\tb\t2\na\tb\t3\na\tb\t2\n")
    np.testing.assert_array_equal(graph.weights, [3, 2])
    assert self.warnings == [f"{self.path}: repeated edges dropped: 2, the first on line 3"]

  def test_self_loops_are_counted_and_dropped_with_their_nodes(self):
    graph = self.read("z\tz\na\tb\nb\tb\n")
    assert graph.names == ("a", "b")
    np.testing.assert_array_equal(graph.edges, [[0, 1]])
    assert self.warnings == [f"{self.path}: self loops dropped: 2, the first on line 1"]
    assert "no edges but self loops" in self.error("a\ta\n")

  def test_closure(self):
    closed = self.named(DAG, closure=True)
    assert set(closed) == {*self.named(DAG), ("dog", "animal"), ("cat", "animal")}
    assert self.read("a\tb\t1\n", closure=True).weights is None

  def test_cycle_is_shown_and_only_its_closure_refused(self):
    content = "x\ta\na\tb\nb\tc\nc\ta\nc\td\n"
    shown = ", line 4: this line closes the cycle a -> b -> c -> a"
    assert len(self.read(content).edges) == 5
    assert self.warnings == [self.path + shown]
    assert self.error(content, closure=True).startswith(shown + "; a hierarchy with a cycle")

  def test_large_closure_is_refused(self):
    chain = "".join(f"{i}\t{i + 1}\n" for i in range(2000))
    message = self.error(chain, closure=True, max_edges=1000)
    assert "the closure would have at least" in message

  @parameterized.named_parameters(
    ("empty", "", ": the file holds no edges"),
    ("empty_gzip", gzip.compress(b""), ": the file holds no edges"),
    ("comments_only", "# a\n\n", ": the file holds no edges"),
    ("header_only", "child,parent\n", ": the file holds no edges"),
    ("weight_header_only", "child,parent,weight", ": the file holds no edges"),
    ("one_column", "dog\n", ", line 1: expected 2 or 3 columns, child parent"),
    ("four_columns", "a,b,c,d\n", ", line 1: expected 2 or 3 columns, child parent"),
    ("fewer_columns", "a\tb\nc\n", ", line 2: expected 2 columns, as on line 1, got 1: ['c']"),
    ("more_columns", "# x\na b\nc d e\n", ", line 3: expected 2 columns, as on line 2, got 3"),
    ("trailing_tab", "a\tb\nc\td\t\n", ", line 2: expected 2 columns, as on line 1, got 3"),
    ("empty_child", "a\tb\n\tb\n", ", line 2: the name of the child is empty"),
    ("empty_parent", "a,b\nc,\n", ", line 2: the name of the parent is empty"),
    ("blank_parent", "a\tb\nc\t  \n", ", line 2: the name of the parent is empty"),
    ("quoted_empty", 'a,b\n"",b\n', ", line 2: the name of the child is empty"),
    ("first_parent_empty", "a\t\n", ", line 1: the name of the parent is empty"),
    ("tab_in_name", 'a,b\n"c\td",b\n', ", line 2: a name holds a tab"),
    ("word_weight", "a,b,1\nc,b,x\n", ", line 2: the weight must be a finite number and not nega"),
    ("nan", "a,b,1\nc,b,nan\n", ", line 2: the weight must be a finite number"),
    ("inf", "a,b,1\nc,b,inf\n", ", line 2: the weight must be a finite number"),
    ("too_large", "a,b,1\nc,b,1e300\n", ", line 2: the weight must be a finite number"),
    ("negative", "a,b,1\nc,b,-0.5\n", ", line 2: the weight must be a finite number"),
    ("no_weight", "a,b,1\nc,b,\n", ", line 2: the weight must be a finite number"),
    ("unknown_header", "kind,group,size\na,b,1\n", ", line 1: the weight must be a finite number"),
    ("latin1", b"a\tb\ncaf\xe9\tb\n", ", line 2: the text must be UTF-8, byte 0xe9 at column 4"),
    ("utf16", "a\tb\n".encode("utf-16"), ", line 1: the text must be UTF-8, this looks like UTF-1"),
    ("nul", b"a\tb\na\x00c\tb\n", ", line 2: not text: a NUL"),
    ("old_mac", "a\tb\rc\td\r", ", line 1: not text: a carriage return inside the line"),
    ("control", "a\tb\nc\x07\tb\n", ", line 2: not text: control character 0x07"),
    (
      "open_quote",
      'a,b\n"c,b\nd",e\n',
      ", line 2: bad quotes: a quoted field must end on its line",
    ),
    ("open_quote_last", 'a,b\n"c,b\n', ", line 2: bad quotes: unexpected end of data"),
    ("text_after_quote", 'a,b\n"c"x,b\n', ", line 2: bad quotes"),
    ("cut_gzip", gzip.compress(DAG.encode())[:-9], "gzip data end or break here"),
    ("gzip_and_more", gzip.compress(DAG.encode()) + b"more", ", line 5: the gzip data end or br"),
    ("no_gzip", b"\x1f\x8bnot gzip", ", line 1: the gzip data end or break here"),
  )
  def test_error_names_the_line(self, content, expected):
    message = self.error(content)
    assert message.startswith(expected) or (expected in message and ", line" in message)

  def test_blanks_in_names_get_a_hint(self):
    assert "names that hold blanks need tabs or commas" in self.error("New York USA\n")
    assert "a header must use known words" in self.error("kind\tgroup\tsize\n")

  def test_unreadable_files(self):
    folder = os.path.dirname(self.path)
    for path, reason in ((f"{folder}/none", "No such file"), (folder, "Is a directory")):
      with pytest.raises(edge_list.EdgeListError, match=f"^{path}: cannot be read: {reason}"):
        edge_list.read(path)

  def test_error_deep_in_a_large_file_names_its_line(self):
    lines = [f"n{i}\tn{i // 2}\t1.5" for i in range(1, 40_000)]
    lines[31_415] = "oops\tn1\tx"
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(edge_list, "_BLOCK", 1 << 12)
      assert self.error("\n".join(lines)).startswith(", line 31416: the weight")
      del lines[31_415:]
      assert len(self.read("\n".join(lines)).edges) == 31_415
      truncated = gzip.compress("\n".join(lines).encode())[:-1000]
      line = int(self.error(truncated).split("line ")[1].split(":")[0])
      assert 20_000 < line <= 31_415
      assert "the line is longer than 4096 bytes" in self.error("a" * 20_000)

  @settings(max_examples=60, deadline=None)
  @given(
    rows=st.lists(
      st.tuples(*[st.text("ab é\"'", min_size=1, max_size=3)] * 2, st.floats(0, 1e6)), max_size=30
    ),
    delimiter=st.sampled_from("\t,"),
    weighted=st.booleans(),
    block=st.integers(16, 200),
  )
  def test_blocks_and_shortcuts_change_nothing(self, rows, delimiter, weighted, block):
    """Whole and quick against line by line, in blocks of any size."""
    quote = (lambda name: '"' + name.replace('"', '""') + '"') if delimiter == "," else str
    lines = [[quote(u), quote(v)] + [repr(w)] * weighted for u, v, w in rows]
    text = "\n".join(map(delimiter.join, lines))

    def outcome(**patches):
      with pytest.MonkeyPatch.context() as patch:
        for name, value in patches.items():
          patch.setattr(edge_list, name, value)
        try:
          graph = self.read(text)
        except edge_list.EdgeListError as error:
          return str(error)
        weights = None if graph.weights is None else graph.weights.tolist()
        return graph.names, graph.edges.tolist(), weights

    whole = outcome()
    assert outcome(_plain_rows=lambda *_: None) == whole
    if "longer than" not in str(small := outcome(_BLOCK=block)):
      assert small == whole

  def test_large_tree_closes(self):
    lines = "".join(f"n{i}\tn{i // 3}\n" for i in range(1, 30_000))
    graph = self.read(lines, closure=True)
    offsets, _ = hierarchy.csr(graph.edges, 30_000)
    depth = np.diff(offsets)[graph.names.index("n29999")]
    assert depth == 10  # 29999 // 3^k reaches 0 after 10 steps
