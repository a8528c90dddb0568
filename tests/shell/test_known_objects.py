"""What the cache knows of objects, whatever order it hears in."""

from __future__ import annotations

from kube.api import Manifest
from rljob_operator.cluster.objects import Objects
from rljob_operator.queue import Key

KEY = ("here", "demo")


OTHER = ("here", "other")


def an_object(
    name: str = "one", version: int = 1, uid: str = "", facts: str = "", job: str = "demo"
) -> Manifest:
    labels = {"rljob.io/name": job, "facts": facts}
    uid = uid or f"uid-{name}"
    return {
        "metadata": {
            "name": name,
            "namespace": "here",
            "uid": uid,
            "resourceVersion": str(version),
            "labels": labels,
        }
    }


class Cache(Objects[str]):
    def __init__(self) -> None:
        self.heard: list[Key] = []
        super().__init__(lambda manifest: str(manifest["metadata"]["labels"]["facts"]), self.heard.append)

    @property
    def names(self) -> list[str]:
        return sorted(self.of(KEY))

    def facts(self, name: str = "one") -> str:
        return self.of(KEY)[name].facts


def test_an_answer_is_known_before_the_watch_tells_of_it() -> None:
    cache = Cache()
    cache.sweep("", set(), 5)
    cache.written(an_object(version=7))
    assert cache.names == ["one"]
    cache.changed(an_object(version=7))
    assert cache.heard == [KEY]


def test_an_answer_that_comes_after_the_deletion_brings_nothing_back() -> None:
    cache = Cache()
    cache.changed(an_object(version=7))
    cache.deleted(an_object(version=8))
    cache.reached("", 8)
    cache.written(an_object(version=7))
    assert cache.names == []


def test_an_older_event_does_not_undo_a_newer_answer() -> None:
    cache = Cache()
    cache.written(an_object(version=7, facts="new"))
    cache.changed(an_object(version=6, facts="old"))
    assert cache.facts() == "new"


def test_a_list_shows_what_is_gone_but_not_what_came_after_it() -> None:
    cache = Cache()
    cache.changed(an_object("gone", version=3))
    cache.written(an_object("after", version=9))
    cache.changed(an_object("there", version=4))
    cache.sweep("", {"uid-there"}, 5)
    assert cache.names == ["after", "there"]


def test_a_list_of_one_namespace_says_nothing_of_others() -> None:
    cache = Cache()
    cache.changed(an_object(version=3))
    cache.sweep("elsewhere", set(), 5)
    assert cache.names == ["one"]


def test_the_end_of_a_namesake_before_leaves_the_present_one() -> None:
    cache = Cache()
    cache.changed(an_object(version=9, uid="second"))
    cache.deleted(an_object(version=8, uid="first"))
    assert cache.of(KEY)["one"].uid == "second"


def test_only_what_matters_wakes_a_job() -> None:
    cache = Cache()
    cache.changed(an_object(version=1, facts="same"))
    cache.changed(an_object(version=2, facts="same"))
    assert len(cache.heard) == 1
    cache.changed(an_object(version=3, facts="other"))
    assert len(cache.heard) == 2


def test_an_object_whose_label_names_another_job_is_gone_from_the_first() -> None:
    cache = Cache()
    cache.changed(an_object(version=1))
    cache.changed(an_object(version=2, job="other"))
    assert (cache.names, list(cache.of(OTHER))) == ([], ["one"])
    assert cache.heard == [KEY, KEY, OTHER]
    cache.changed(an_object(version=1))  # told again, late
    assert (cache.names, list(cache.of(OTHER))) == ([], ["one"])
    cache.changed(an_object(version=3))
    assert (cache.names, list(cache.of(OTHER))) == (["one"], [])


def test_the_end_of_an_object_is_the_end_of_it_wherever_it_was() -> None:
    cache = Cache()
    cache.changed(an_object(version=1))
    cache.deleted(an_object(version=2, job="other"))
    assert (cache.names, list(cache.of(OTHER))) == ([], [])


def test_nothing_is_kept_of_what_is_gone() -> None:
    cache = Cache()
    cache.changed(an_object(version=1, uid="first"))
    cache.changed(an_object(version=2, uid="second"))
    cache.deleted(an_object(version=3, uid="first"))
    assert cache.names == ["one"]
    cache.sweep("", set(), 3)
    assert (cache._by_job, cache._places) == ({}, {})
