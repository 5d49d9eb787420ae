"""Why a job ended is read from its log in the words of SLURM, of Python and of containers."""

import pytest

from lmdbench.sweep.executors.reasons import last_words, of_lines, of_log, of_pending, of_state

OOM = "slurmstepd: error: Detected 1 oom_kill event in StepId=4711.0. Some of the step tasks have"
TIME = (
    "slurmstepd: error: *** STEP 21.0 ON n1 CANCELLED AT 2026-11-29T17:20:41 DUE TO TIME LIMIT ***"
)
CHAIN = """\
Traceback (most recent call last):
  File "a.py", line 1, in <module>
KeyError: 'a'

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "b.py", line 2, in f
    y(
     ^
RuntimeError: CUDA error: device-side assert triggered
CUDA kernel errors might be asynchronously reported

srun: error: n1: task 0: Exited with exit code 1"""
GROUP = """\
  + Exception Group Traceback (most recent call last):
  |   File "a.py", line 1, in <module>
  |     raise x
  | ExceptionGroup: two of them (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | ValueError: 1
    +------------------------------------"""
LOGS = [
    (f"{OOM} been OOM Killed.\nsrun: error: n1: task 0: Out Of Memory", "memory", "out of memory"),
    ("slurmstepd: error: Step 5.0 exceeded memory limit (99 > 9)", "memory", "out of memory"),
    (f"{TIME}\nsrun: error: n1: task 0: Killed", "time", "time limit"),
    (
        "slurmstepd: error: *** JOB 5 ON n7 CANCELLED AT 2026-11-29T17:20:41 DUE TO NODE FAILURE, "
        "SEE SLURMCTLD LOG FOR DETAILS ***",
        "node",
        "n7",
    ),
    ("slurmstepd: error: *** JOB 5 ON n7 CANCELLED AT x DUE TO PREEMPTION ***", "cancelled", "pre"),
    ("slurmstepd: error: *** JOB 5 ON n7 CANCELLED AT 17:20:41 ***", "cancelled", "at 17:20:41"),
    (
        "slurmstepd: error: execve(): /nope/python: No such file or directory\n"
        "srun: error: n1: task 0: Exited with exit code 2",
        "unknown",
        "/nope/python: No such file",
    ),
    ("FATAL:   could not open image /x.sif", "unknown", "could not open image /x.sif"),
    ("script: line 12: module: command not found", "unknown", "module: command not found"),
    ("srun: error: n1: task 0: Aborted", "crash", "abort"),
    ("srun: error: n1: task 0: Segmentation fault (core dumped)", "crash", "segmentation fault"),
    ("srun: error: n1: task 0: Killed", "signal", "SIGKILL"),
    (
        "/var/spool/slurmd/job00080/slurm_script: line 23: 24876 Killed                  srun -u",
        "signal",
        "killed (SIGKILL), as happens when memory runs out",
    ),
    (
        "/var/spool/slurmd/job7/slurm_script: line 9:   812 Segmentation fault      (core dumped)",
        "crash",
        "Segmentation fault",
    ),
    (CHAIN, "crash", "RuntimeError: CUDA error: device-side assert triggered"),
    (GROUP, "crash", "ExceptionGroup: two of them"),
    (
        "Traceback (most recent call last):\n  x\n"
        "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB",
        "gpu-memory",
        "CUDA out of memory",
    ),
    ("12:00:01 ce: epoch 3/9\nsubmitit INFO - job ends\n\n", "unknown", "epoch 3/9"),
    ("", "unknown", ""),
]


@pytest.mark.parametrize(("text", "cause", "words"), LOGS, ids=range(len(LOGS)))
def test_what_a_log_says(text, cause, words):
    reason = of_lines(text.split("\n"))
    assert reason.cause == cause
    assert words in reason.text
    assert "\n" not in reason.text
    assert bool(reason) == bool(words)


def test_an_error_of_lmdbench_is_told_without_its_class():
    lines = ["Traceback (most recent call last):", "lmdbench.core.errors.RunFailed: 1 run: as told"]
    assert of_lines(lines).text == "1 run: as told"


def test_what_a_method_prints_is_not_taken_for_slurms_words():
    said = of_lines(["DUE TO TIME LIMIT is what I print", "Out Of Memory"])
    assert not said.sure
    assert said.cause == "unknown"


def test_only_the_last_life_of_a_requeued_job_counts(tmp_path):
    log = tmp_path / "5_0_log.err"
    new = "submitit INFO (2026-11-29 17:21:00) - Starting with JobEnvironment(job_id=5)"
    log.write_text(f"{TIME}\n{new}\nTraceback (most recent call last):\n  x\nValueError: y\n")
    assert last_words(log) == "ValueError: y"


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe\x93" * 9000, b"\n" * 99], ids=len)
def test_odd_logs_are_no_error(tmp_path, content):
    (tmp_path / "log").write_bytes(content)
    assert len(last_words(tmp_path / "log")) < 300
    assert last_words(tmp_path / "none") == ""


def test_what_slurm_says_of_jobs_that_ended():
    def told(state, code="0:0", node="n2"):
        reason = of_state(state, node, code, {1000: "ada"}.get)
        return reason.cause, reason.text

    assert told("CANCELLED by 1000") == ("cancelled", "cancelled by ada (on n2)")
    assert told("OUT_OF_MEMORY", "0:125")[0] == "memory"
    assert told("TIMEOUT")[0] == "time"
    assert told("NODE_FAIL")[0] == "node"
    assert told("FAILED", "1:0") == ("unknown", "exit code 1 (on n2)")
    assert told("FAILED", "137:0", "") == ("unknown", "exit code 137: ended by signal 9")
    assert told("FAILED", "0:53") == ("unknown", "SLURM could not write its log there (on n2)")
    assert told("COMPLETED") == ("unknown", "")


def test_why_a_job_waits_is_told_in_words():
    assert of_pending("Resources") == "Resources"
    assert of_pending("Dependency") == "waiting for stage 1"
    assert "limit of jobs" in of_pending("QOSMaxSubmitJobPerUserLimit")
    assert "partition allows" in of_pending("PartitionTimeLimit")
    assert of_pending("ReqNodeNotAvail, UnavailableNodes:n[1-2]").startswith("ReqNodeNotAvail, Una")
    assert of_pending("SomethingNew") == "SomethingNew"


REAL = "Traceback (most recent call last):\n  x\nValueError: real"


@pytest.mark.parametrize(
    ("text", "cause", "words"),
    [
        (
            f"slurmstepd: error: couldn't chdir to `/x': y: going to /tmp instead\n{REAL}",
            "crash",
            "real",
        ),
        (f"{REAL}\nslurmstepd: error: Unable to rmdir: busy", "crash", "ValueError: real"),
        (
            "Traceback (most recent call last):\n  x\nRuntimeError: CUDA out of memory. Tr",
            "gpu-memory",
            "CUDA",
        ),
        (
            "Traceback (most recent call last):\n  x\nMemoryError: Unable to allocate 8 GiB",
            "memory",
            "8 GiB",
        ),
        (
            f"{REAL}\n12:00:01 ce: epoch 3/9  loss 1\nsrun: error: n1: task 0: Killed",
            "signal",
            "SIGKILL",
        ),
        (
            "0: slurmstepd: error: Detected 1 oom_kill event in StepId=4.0",
            "memory",
            "out of memory",
        ),
        (
            "[2026-11-29T17:20:41] error: Detected 1 oom_kill event in StepId=4.0",
            "memory",
            "out of",
        ),
        (
            "slurmstepd: error: *** JOB 5 ON n7 CANCELLED AT 17:20 by 1000 ***",
            "cancelled",
            "at 17:20",
        ),
        (
            "terminate called\n  what():  CUDA error: bad\nsrun: error: n1: task 0: Aborted",
            "crash",
            "CUDA",
        ),
        ("srun: error: n1: task 0: Exited with exit code 137", "signal", "137"),
        (
            "Traceback (most recent call last):\n  x\nRuntimeError:\n  size mismatch",
            "crash",
            "size mis",
        ),
        ("\x1b[31mFATAL:   \x1b[0mno image", "unknown", "no image"),
    ],
    ids=range(12),
)
def test_what_else_logs_hold(tmp_path, text, cause, words):
    (tmp_path / "log").write_text(text)
    reason = of_log(tmp_path / "log")
    assert (reason.cause, words in reason.text) == (cause, True), reason


def test_more_of_slurms_words():
    assert of_state("OUT_OF_ME+", "n1", "0:125", str).cause == "memory"
    assert "more time" in of_pending("AssocGrpGRESMinutes")
    assert "retry" in of_pending("launch failed requeued held")
    assert "partition allows" in of_pending("PartitionTimeLimit")
    assert "one job may not ask" in of_pending("QOSMaxCpuPerJobLimit")
    assert "limit of jobs at a time" in of_pending("QOSMaxJobsPerUserLimit")
    assert "more time" in of_pending("AssocMaxWallDurationPerJobLimit")


def test_which_module_lmod_does_not_know():
    said = of_lines(
        [
            "Lmod has detected the following error: The following module(s) are unknown: cuda/99",
            "",
            "Please check the spelling or version number.",
        ]
    )
    assert said.text.endswith("unknown: cuda/99")
