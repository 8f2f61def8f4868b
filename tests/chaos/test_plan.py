"""The same seed draws the same blows and jobs; every kind comes."""

from bench.chaos.plan import KILLS, OTHERS, Options, blows, work


def test_a_seed_gives_the_same_run() -> None:
    options = Options("sqlite://", kills=50, jobs=100)
    assert blows(options) == blows(options)
    assert work(options) == work(options)
    assert blows(options) != blows(Options("sqlite://", kills=50, jobs=100, seed=2))


def test_every_kind_of_blow_comes_in_a_long_run_and_all_in_time() -> None:
    options = Options("sqlite://", kills=200)
    drawn = blows(options)
    assert {blow.kind for blow in drawn} == {*KILLS, *OTHERS}
    assert sum(blow.kind in KILLS for blow in drawn) == 200
    assert [blow.at for blow in drawn] == sorted(blow.at for blow in drawn)
    assert all(0 < blow.at < options.seconds for blow in drawn)
