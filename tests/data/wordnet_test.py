"""WordNet's counts, against the papers and against an independent copy of its closures."""

import gzip
import os

import numpy as np
import pytest

from geoemb.data import hierarchy, wordnet


@pytest.fixture(scope="module")
def nouns():
  return wordnet.load("noun")


@pytest.fixture(scope="module")
def mammals():
  return wordnet.load("mammal")


def names_of(graph, edges):
  """Edges as a set of pairs of names."""
  return {(graph.names[u], graph.names[v]) for u, v in edges.tolist()}


def keys(edges):
  """Edges as a set of numbers."""
  return set((edges[:, 0].astype(np.int64) << 32 | edges[:, 1]).tolist())


def without(graph, name):
  return hierarchy.induced(graph, np.array(graph.names) != name)


def test_nouns_have_the_counts_of_the_papers(nouns):
  n = len(nouns.names)
  assert n == len(set(nouns.names)) == 82_115
  assert nouns.edges.shape == (743_241, 2) and nouns.edges.dtype == np.int32
  assert len(np.unique(nouns.edges[:, 0])) == 82_114  # all but the root
  assert hierarchy.ancestors(nouns.edges, n).shape == (n, 34)
  assert len(hierarchy.reduce(nouns.edges, n)) == 84_366
  direct = wordnet.direct("noun")
  assert direct.names == nouns.names and len(direct.edges) == 84_427
  assert hierarchy.find_cycle(direct.edges, n) is None


def test_nouns_without_their_root(nouns):
  rootless = without(nouns, "entity.n.01")
  assert (len(rootless.names), len(rootless.edges)) == (82_114, 661_127)
  assert len(hierarchy.reduce(rootless.edges, 82_114)) == 84_363


def test_names_and_order_are_those_of_wordnet(nouns):
  assert nouns.names[:3] == ("entity.n.01", "physical_entity.n.01", "abstraction.n.06")
  chain = "dog.n.01 canine.n.02 carnivore.n.01 placental.n.01 mammal.n.01 vertebrate.n.01".split()
  dog = nouns.names.index("dog.n.01")
  above = {nouns.names[v] for v in nouns.edges[nouns.edges[:, 0] == dog, 1]}
  assert {*chain[1:], "domestic_animal.n.01", "entity.n.01"} <= above
  assert len(above) == 14
  assert {name.split(".")[-2] for name in nouns.names} == {"n"}


def test_authors_script_loses_155_edges_between_instances_and_classes(nouns):
  _, of_class, of_instance = wordnet.tables("noun")
  n = len(nouns.names)
  by_class = hierarchy.close(of_class, n)
  # The literal rule is @* and @i* then @*, as in its relational algebra.
  by_instance = hierarchy.close(of_instance, n)
  offsets, above = hierarchy.csr(by_class, n)
  then = np.array(
    [(u, w) for u, v in by_instance.tolist() for w in above[offsets[v] : offsets[v + 1]].tolist()]
  )
  literal = hierarchy.unique(np.concatenate([by_class, by_instance, then]), n)
  assert len(literal) == 743_086
  assert keys(literal) <= keys(nouns.edges)
  assert len(of_class) + len(of_instance) == 84_427


def test_mammals_follow_the_authors_filter(nouns, mammals):
  assert (len(mammals.names), len(mammals.edges)) == (1_180, 6_540)
  assert not set(wordnet.MAMMAL_FILTER) & set(mammals.names)
  ids = {name: i for i, name in enumerate(nouns.names)}
  keep = np.zeros(len(nouns.names), bool)
  root = ids["mammal.n.01"]
  keep[np.r_[nouns.edges[nouns.edges[:, 1] == root, 0], root]] = True
  unfiltered = hierarchy.induced(nouns, keep)
  assert (len(unfiltered.names), len(unfiltered.edges)) == (1_182, 6_542)
  lost = names_of(unfiltered, unfiltered.edges) - names_of(mammals, mammals.edges)
  assert lost == {(name, "mammal.n.01") for name in wordnet.MAMMAL_FILTER}


def test_mammals_are_closed_and_have_one_root(mammals):
  assert len(hierarchy.reduce(mammals.edges, 1_180)) == 1_180
  direct = wordnet.direct("mammal")
  assert direct.names == mammals.names and len(direct.edges) == 1_180
  np.testing.assert_array_equal(hierarchy.close(direct.edges, 1_180), mammals.edges)
  rootless = without(mammals, "mammal.n.01")
  assert (len(rootless.names), len(rootless.edges)) == (1_179, 5_361)
  assert len(hierarchy.reduce(rootless.edges, 1_179)) == 1_176


def test_verbs_have_the_counts_of_the_paper():
  verbs, direct = wordnet.load("verb"), wordnet.direct("verb")
  n = len(verbs.names)
  assert n == len(set(verbs.names)) == 13_542
  assert (len(direct.edges), len(verbs.edges)) == (13_239, 35_079)
  assert direct.names == verbs.names
  assert np.all(verbs.edges[:, 0] != verbs.edges[:, 1])
  assert len(wordnet.tables("verb")[0]) == 13_767  # the other 225 have no hypernym or hyponym


def test_verbs_of_the_original_release_would_close_in_spite_of_their_cycle():
  direct = wordnet.direct("verb")
  n, ids = len(direct.names), [direct.names.index(v) for v in ("inhibit.v.04", "restrain.v.01")]
  assert ids[::-1] in direct.edges.tolist()
  edges = np.concatenate([direct.edges, [ids]])
  assert set(hierarchy.find_cycle(edges, n)) == set(ids)
  assert len(hierarchy.close(edges, n, cyclic=True)) == 35_082


def test_unknown_subset_is_refused():
  with pytest.raises(ValueError, match="one of noun, verb, mammal, got 'adverb'"):
    wordnet.load("adverb")


# The rest is against the closures of [ganea2018cones]' authors, who built them with nltk.


@pytest.fixture(scope="module")
def cones(data_root):
  folder = os.path.join(data_root, "hyperbolic_cones")
  if not os.path.isdir(folder):
    pytest.skip(f"no {folder}")
  return folder


def rows(folder, name):
  path = os.path.join(folder, name)
  with (gzip.open if name.endswith(".gz") else open)(path, "rt") as file:
    return [tuple(line.split()) for line in file]


def named(folder, name):
  """Edges of a file of noun ids, as names; unlike the closure, these put parents first."""
  names = dict(rows(folder, "noun_closure.tsv.vocab.gz"))
  return {(names[child], names[parent]) for parent, child in rows(folder, name)}


def test_mammal_closure_is_the_cones(cones, mammals):
  assert set(rows(cones, "mammal_closure.tsv.gz")) == names_of(mammals, mammals.edges)


def test_noun_reduction_is_the_cones(cones, nouns):
  rootless = without(nouns, "entity.n.01")
  ours = names_of(rootless, hierarchy.reduce(rootless.edges, len(rootless.names)))
  assert named(cones, "noun_closure.tsv.train_0percent.gz") == ours


@pytest.mark.parametrize("part", ["test", "valid", "train_25percent"])
def test_noun_splits_of_the_cones_lie_in_the_closure(cones, nouns, part):
  ids = {name: i for i, name in enumerate(nouns.names)}
  theirs = [(ids[u], ids[v]) for u, v in named(cones, f"noun_closure.tsv.{part}.gz")]
  assert keys(np.array(theirs)) <= keys(nouns.edges)
