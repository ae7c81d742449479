"""Every form of the documentation page of dynamic graphs runs here, with only the import line changed."""

import json

from execution import DynamicOut, DynamicOutput, Out, Output, RunResult, job, op
from execution.definition.job import JobDefinition
from fixtures.jobs.dynamic_graphs import (
    add,
    chained,
    chained_alt,
    dynamic_graph,
    multiple,
    naive,
    other_arg,
    process,
)


def run(definition: JobDefinition) -> RunResult:
    """Run a job in memory; a failure is raised."""
    result = definition.execute_in_process()
    assert result.success
    return result


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
