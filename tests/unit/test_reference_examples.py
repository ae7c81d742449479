"""Every form of the documentation page of dynamic graphs runs here, with only the import line changed."""

import json

from execution import DynamicOut, DynamicOutput, Out, Output, job, op
from execution.definition.job import JobDefinition
from execution.running.result import RunResult


def run(definition: JobDefinition) -> RunResult:
    """Run a job in memory; a failure is raised."""
    result = definition.execute_in_process()
    assert result.success
    return result


class Chunks:
    """Large data that comes in pieces with an index."""

    def chunk(self):
        """(index, piece) of each."""
        return enumerate(["alpha", "beta", "gamma"])


def load_big_data():
    """Large data."""
    return Chunks()


def expensive_processing(data):
    """What takes long."""
    return [piece.upper() for _, piece in data.chunk()]


def analyze(result):
    """What comes of it."""
    return "-".join(result)


@op
def data_processing():
    large_data = load_big_data()
    interesting_result = expensive_processing(large_data)
    return analyze(interesting_result)


@job
def naive():
    data_processing()


@op(out=DynamicOut())
def load_pieces():
    large_data = load_big_data()
    for idx, piece in large_data.chunk():
        yield DynamicOutput(piece, mapping_key=idx)


@op
def compute_piece(piece):
    return piece.upper()


@op
def merge_and_analyze(pieces):
    return analyze(pieces)


@job
def dynamic_graph():
    pieces = load_pieces()
    results = pieces.map(compute_piece)
    merge_and_analyze(results.collect())


@op(out=DynamicOut())
def dynamic_values():
    for number in (1, 2, 3):
        yield DynamicOutput(number, mapping_key=f"n_{number}")


@op
def one():
    return 1


@op
def echo(val):
    return val


@op
def add(val, other):
    return val + other


@op
def process(results):
    return sum(results)


@job
def chained():
    results = dynamic_values().map(echo).map(echo).map(echo)
    process(results.collect())


@job
def chained_alt():
    def _for_each(val):
        a = echo(val)
        b = echo(a)
        return echo(b)

    results = dynamic_values().map(_for_each)
    process(results.collect())


@job
def other_arg():
    non_dynamic = one()
    dynamic_values().map(lambda val: add(val, non_dynamic))


@op(out={"values": DynamicOut(), "negatives": DynamicOut()})
def multiple_dynamic_values():
    for number in (1, 2):
        yield DynamicOutput(number, mapping_key=f"k{number}", output_name="values")
        yield DynamicOutput(-number, mapping_key=f"k{number}", output_name="negatives")


@job
def multiple():
    # can unpack on assignment (order based)
    values, _ = multiple_dynamic_values()
    process(values.collect())

    # or access by name
    outs = multiple_dynamic_values()
    process(outs.values.collect())


def test_a_static_job() -> None:
    """One op, one result."""
    assert run(naive).output_for_node("data_processing") == "ALPHA-BETA-GAMMA"


def test_a_dynamic_job() -> None:
    """Pieces with int keys are processed apart and merged in order."""
    result = run(dynamic_graph)
    assert result.output_for_node("load_pieces") == {"0": "alpha", "1": "beta", "2": "gamma"}
    assert result.output_for_node("compute_piece") == {"0": "ALPHA", "1": "BETA", "2": "GAMMA"}
    assert result.output_for_node("merge_and_analyze") == "ALPHA-BETA-GAMMA"


def test_the_two_ways_to_chain_are_one() -> None:
    """Chained maps and a callable of several ops give the same graph, and the same result."""
    assert chained.graph.nodes == chained_alt.graph.nodes
    for definition in (chained, chained_alt):
        result = run(definition)
        assert result.output_for_node("process") == 6
        assert result.output_for_node("echo_3") == {"n_1": 1, "n_2": 2, "n_3": 3}


def test_a_shared_argument_is_computed_once() -> None:
    """A plain output beside the mapped one is one step, read by every clone."""
    result = run(other_arg)
    assert result.output_for_node("add") == {"n_1": 2, "n_2": 3, "n_3": 4}
    assert result.output_for_node("one") == 1


def test_several_dynamic_outputs_by_order_and_by_name() -> None:
    """Each entry of the namedtuple can be mapped and collected on its own."""
    result = run(multiple)
    assert result.output_for_node("process") == result.output_for_node("process_2") == 3
    assert result.output_for_node("multiple_dynamic_values", "negatives") == {"k1": -1, "k2": -2}


def test_outputs_that_are_returned() -> None:
    """A dynamic output may be returned as a list, beside a plain one."""

    @op(out={"pieces": DynamicOut(), "count": Out()})
    def both():
        return [
            DynamicOutput(1, "a", "pieces"),
            DynamicOutput(2, "b", "pieces"),
            Output(2, "count"),
        ]

    @job
    def returned():
        outs = both()
        add(process(outs.pieces.collect()), outs.count)

    result = run(returned)
    assert result.output_for_node("add") == 5
    assert json.dumps(result.output_for_node("both", "pieces")) == '{"a": 1, "b": 2}'
