import random
from collections import Counter, defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold

from covidmm.prepare.splits import FOLDS, TEST, assign, group, placeholders, split_of

NAMES = ("negative", "typical", "indeterminate", "atypical")


@st.composite
def cohorts(draw):
    """Image id -> (study, patient or None, class), studies of one to three images."""
    studies = draw(st.integers(1, 60))
    seed = draw(st.integers(0, 10_000))
    chance = random.Random(seed)
    images = {}
    for study in range(studies):
        name = chance.choices(NAMES, (28, 47, 17, 8))[0]
        patient = chance.choice([None, f"p{chance.randrange(studies)}"])
        for part in range(chance.choice((1, 1, 1, 2, 3))):
            images[f"i{chance.randrange(10**6):06d}-{study}-{part}"] = (f"s{study}", patient, name)
    pairs = [tuple(chance.sample(sorted(images), 2)) for _ in range(chance.randrange(4)) if len(images) > 1]
    return images, pairs


def groups_of(images, pairs=()):
    shared = [(("study", study), image) for image, (study, _, _) in images.items()]
    shared += [(("patient", patient), image) for image, (_, patient, _) in images.items() if patient]
    return group(shared, pairs)


def members_of(groups, images):
    found = defaultdict(list)
    for image in images:
        found[groups.first(image)].append(image)
    return found


def split(images, pairs=(), seed=0, test_fraction=0.15):
    """The groups, and the fold of every image."""
    groups = groups_of(images, pairs)
    rows = [(groups.first(image), (name,)) for image, (_, _, name) in images.items()]
    folds = assign(rows, seed=seed, test_fraction=test_fraction)
    return members_of(groups, images), {image: folds[groups.first(image)] for image in images}


@given(cohorts())
def test_groups_are_the_connected_components(cohort):
    images, pairs = cohort
    names = sorted(images)
    edges = list(pairs)
    for place in (0, 1):
        for one in names:
            for other in names:
                if images[one][place] is not None and images[one][place] == images[other][place]:
                    edges.append((one, other))
    rows, columns = ([names.index(edge[side]) for edge in edges] for side in (0, 1))
    matrix = coo_array(([1] * len(edges), (rows, columns)), shape=(len(names), len(names)))
    count, component = connected_components(matrix, directed=False)
    groups = members_of(groups_of(images, pairs), images)
    assert len(groups) == count
    for first, members in groups.items():
        assert first == min(members)
        assert len({component[names.index(image)] for image in members}) == 1


@given(cohorts(), st.integers(0, 5), st.sampled_from([0.0, 0.15, 0.3]))
def test_no_group_is_on_two_sides_and_no_image_is_lost(cohort, seed, test_fraction):
    images, pairs = cohort
    groups, folds = split(images, pairs, seed, test_fraction)
    assert set(folds) == set(images)
    assert set(folds.values()) <= ({*range(FOLDS), TEST} if test_fraction else set(range(FOLDS)))
    for members in groups.values():
        assert len({folds[image] for image in members}) == 1
    for one, other in pairs:
        assert folds[one] == folds[other]


@given(cohorts(), st.randoms())
def test_the_order_of_the_images_does_not_matter(cohort, chance):
    images, pairs = cohort
    shuffled = list(images.items())
    chance.shuffle(shuffled)
    reversed_pairs = [(other, one) for one, other in reversed(pairs)]
    assert split(dict(shuffled), reversed_pairs)[1] == split(images, pairs)[1]


@given(cohorts())
@settings(max_examples=50)
def test_each_side_has_its_share_of_images_and_of_every_class(cohort):
    images, _ = cohort
    groups, folds = split(images)
    largest = max(len(members) for members in groups.values())
    total = Counter(images[image][2] for image in images)
    for fold, share in [(TEST, 0.15), *((fold, 0.17) for fold in range(FOLDS))]:
        inside = [image for image in images if folds[image] == fold]
        assert abs(len(inside) - share * len(images)) <= 2 * largest
        per_class = Counter(images[image][2] for image in inside)
        for name in NAMES:
            assert abs(per_class[name] - share * total[name]) <= 2 * largest


def test_a_class_of_six_groups_reaches_every_side():
    images = {f"i{n}": (f"s{n}", None, "atypical" if n < 6 else "typical") for n in range(600)}
    _, folds = split(images)
    assert sorted(folds[f"i{n}"] for n in range(6)) == [TEST, 0, 1, 2, 3, 4]


def test_seeds_draw_different_splits():
    images = {f"i{n}": (f"s{n}", None, NAMES[n % 4]) for n in range(100)}
    held_out = {seed: {image for image, fold in split(images, seed=seed)[1].items() if fold == TEST} for seed in (0, 1)}
    # 25 of each class: 3.75 rounded to 4.
    assert len(held_out[0]) == len(held_out[1]) == 16
    assert held_out[0] != held_out[1]


def test_is_at_least_as_balanced_as_scikit_learn():
    chance = random.Random(7)
    images = {}
    for study in range(800):
        name = chance.choices(NAMES, (28, 47, 17, 8))[0]
        for part in range(chance.choice((1, 1, 1, 2))):
            images[f"{study}-{part}"] = (f"s{study}", None, name)
    ids = sorted(images)
    labels = [NAMES.index(images[image][2]) for image in ids]

    def worst(sides):
        total = Counter(labels)
        return max(abs(Counter(labels[i] for i in side)[c] - total[c] / FOLDS) for side in sides for c in total)

    _, folds = split(images, test_fraction=0.0)
    ours = [[i for i, image in enumerate(ids) if folds[image] == fold] for fold in range(FOLDS)]
    reference = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    theirs = [side for _, side in reference.split(ids, labels, [images[image][0] for image in ids])]
    assert worst(ours) <= max(worst(theirs), 2)


def test_split_of():
    assert [split_of(fold, val_fold=2) for fold in (TEST, 0, 1, 2)] == ["test", "train", "train", "val"]


def test_images_that_have_their_place_are_not_dealt_out():
    rows = [(None, ("rare",)), *((f"i{n}", ("common",)) for n in range(5))]
    folds = assign(rows, seed=0, test_fraction=0.0)
    assert sorted(folds.values()) == [0, 1, 2, 3, 4]


def test_patient_ids_that_more_than_half_of_the_studies_share_are_placeholders():
    patients = [*(("ANON", f"s{n}") for n in range(8)), ("p", "s1"), ("p", "s2")]
    assert placeholders(patients, studies=15) == {"ANON": 8}
    assert placeholders(patients, studies=16) == {}
    assert placeholders(patients[3:], studies=5) == {}


def test_an_empty_cohort():
    assert group([], []).first("a") == "a"
    assert len(assign([], seed=0, test_fraction=0.1)) == 0
