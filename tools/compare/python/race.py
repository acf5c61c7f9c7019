"""Times contenders in turns, like src/race.rs."""

import time

import numpy as np

TURN = 1_000_000
WARMED = 20_000_000
LEAST = 3


class Contender:
    """A function to time.

    `run` computes once; `result` then returns the result as an array or a tensor. `prepare` restores the input of a
    call that works in place. Only `run` is timed.
    """

    def __init__(self, name, form, run, result, prepare=None):
        self.name, self.form, self.run, self.result, self.prepare = name, form, run, result, prepare

    def first(self, kept):
        """Returns the bytes of the first `kept` results."""
        result = self.result()
        if hasattr(result, "detach"):
            import torch

            result = result.detach().reshape(-1)[:kept].contiguous()
            result = (result.view(torch.int16) if result.dtype == torch.bfloat16 else result).numpy()
        return np.ascontiguousarray(np.asarray(result).reshape(-1)[:kept]).tobytes()


def batch(contender, calls):
    """Returns the CPU time and the wall time of `calls` calls, in nanoseconds."""
    run = contender.run
    if contender.prepare:
        cpu = wall = 0
        for _ in range(calls):
            contender.prepare()
            part = timed(run, 1)
            cpu, wall = cpu + part[0], wall + part[1]
        return cpu, wall
    return timed(run, calls)


def timed(run, calls):
    wall, cpu = time.perf_counter_ns(), time.process_time_ns()
    for _ in range(calls):
        run()
    return time.process_time_ns() - cpu, time.perf_counter_ns() - wall


def race(contenders, problem, quick):
    """Returns pairs of a contender and its record. A contender whose first call fails is not timed."""
    rounds, limit = (5, 3e7) if quick else (30, 2e8)
    turns, calls, notes, spent = {}, {}, {}, {}
    for contender in contenders:
        try:
            first = batch(contender, 1)[1]
            call = batch(contender, 1)[1] if first < WARMED else first
            calls[contender] = max(1, -(-TURN // max(1, call)))
            turns[contender], spent[contender] = [], 0
        except Exception as refused:
            notes[contender] = (str(refused).splitlines() or [repr(refused)])[0]
    for round in range(rounds):
        for contender, before in turns.items():
            if round >= LEAST and spent[contender] >= limit:
                continue
            if not contender.prepare and (not before or before[-1][1] < WARMED):
                contender.run()
            cpu, wall = batch(contender, calls[contender])
            spent[contender] += wall
            before.append((cpu / calls[contender], wall / calls[contender]))
    return [(c, record(c, problem, turns.get(c), notes.get(c))) for c in contenders]


def record(contender, problem, turns, note):
    times = None
    if turns:
        cpu, wall = (sorted(turn[i] / problem.elements for turn in turns) for i in (0, 1))
        middle = len(turns) // 2
        times = {"cpu_min": cpu[0], "cpu_median": cpu[middle], "wall_min": wall[0], "wall_median": wall[middle]}
    return {
        "op": problem.op,
        "dtype": problem.dtype,
        "shape": problem.name,
        "contender": contender.name,
        "form": contender.form,
        "threads": 1,
        "times": times,
        "note": note,
    }
