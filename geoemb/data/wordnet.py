"""WordNet 3.0's hypernym hierarchies of nouns and verbs, and the mammals; shipped with the package.

The files under wordnet/ are direct edges and names, from `wordnet_build`; closures are computed on
load. Ids are in the order of WordNet's data files (that of the synset offsets), subsets keep it.
Names are lemma.pos.NN as nltk writes them, "mammal.n.01".

    subset    nodes   direct   closure
    noun     82,115   84,427   743,241   [nickel2017poincare] §4.1
    mammal    1,180    1,180     6,540   the subtree of mammal.n.01
    verb     13,542   13,239    35,079   [nickel2018lorentz] table 1

Two traps. The 743,241 edges of the paper are reachability over both hypernyms (`@`) and instance
hypernyms (`@i`); the authors' script goes from `@i` to `@` but not back, which loses 155 edges. Its
mammals are filtered by 24 regular expressions of which two can match: they drop tusker.n.01 and
female_mammal.n.01, so that 1,182 nodes and 6,542 edges become 1,180 and 6,540.

Verbs are those with a hypernym or a hyponym, of 13,767. In the release of 2006, inhibit.v.04 and
restrain.v.01 are each other's hypernyms; Debian's files, which ours are built from, keep only the
edge from restrain to inhibit, and their closure has the paper's count.

WordNet 3.0 is copyright 2006 by Princeton University; its licence is wordnet/LICENSE.
"""

import gzip
import importlib.resources

import numpy as np

from geoemb.data import hierarchy

SUBSETS = ("noun", "verb", "mammal")
MAMMAL_ROOT = "mammal.n.01"
MAMMAL_FILTER = ("tusker.n.01", "female_mammal.n.01")  # edges from these are dropped


def load(subset: str = "noun") -> hierarchy.Hierarchy:
  """WordNet 3.0 closure of "noun", "verb" or "mammal"; an edge (u, v) reads "u is a v"."""
  if subset == "mammal":
    return _mammals(load("noun"))
  graph = direct(subset)
  n = len(graph.names)
  return graph._replace(edges=hierarchy.close(graph.edges, n))


def direct(subset: str = "noun") -> hierarchy.Hierarchy:
  """WordNet 3.0 direct hypernym edges, with the nodes of `load(subset)`."""
  if subset not in SUBSETS:
    raise ValueError(f"subset must be one of {', '.join(SUBSETS)}, got {subset!r}")
  if subset == "mammal":
    nouns, names = direct("noun"), set(load("mammal").names)
    return hierarchy.induced(nouns, np.array([name in names for name in nouns.names]))
  names, class_edges, instance_edges = tables(subset)
  edges = hierarchy.unique(np.concatenate([class_edges, instance_edges]), len(names))
  graph = hierarchy.Hierarchy(edges, names)
  return _without_isolated(graph)


def tables(pos: str) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
  """All synsets of "noun" or "verb": names, edges to hypernyms, edges to instance hypernyms."""
  source = importlib.resources.files("geoemb.data").joinpath("wordnet", f"{pos}.tsv.gz")
  lines = gzip.decompress(source.read_bytes()).decode("ascii").splitlines()
  names, *columns = zip(*(line.split("\t") for line in lines))
  edges = []
  for column in columns:
    parents = [field.split() for field in column]
    child = np.repeat(np.arange(len(names)), [len(p) for p in parents])
    parent = np.array([int(p) for some in parents for p in some], np.int64)
    edges.append(np.stack([child, parent], axis=1).astype(np.int32))
  return names, *edges


def _mammals(nouns):
  """The authors' rule: the closure within mammal.n.01 and all below it, less what they filter."""
  ids = {name: i for i, name in enumerate(nouns.names)}
  root = ids[MAMMAL_ROOT]
  keep = np.zeros(len(nouns.names), bool)
  keep[nouns.edges[nouns.edges[:, 1] == root, 0]] = True
  keep[root] = True
  dropped = np.isin(nouns.edges[:, 0], [ids[name] for name in MAMMAL_FILTER])
  return _without_isolated(hierarchy.induced(nouns._replace(edges=nouns.edges[~dropped]), keep))


def _without_isolated(graph):
  """The hierarchy without nodes that no edge touches."""
  keep = np.zeros(len(graph.names), bool)
  keep[graph.edges] = True
  return graph if keep.all() else hierarchy.induced(graph, keep)
