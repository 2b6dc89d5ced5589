"""Runs coco-caption's Java programs: the PTB tokenizer and METEOR.

The package pycocoevalcap contains the programs.
"""

import errno
import inspect
import os
import pathlib
import subprocess
import threading

from pycocoevalcap.meteor.meteor import METEOR_JAR, Meteor
from pycocoevalcap.tokenizer import ptbtokenizer

# In a locale with decimal commas or other digits, METEOR cannot read the numbers that it writes.
JAVA_OPTIONS = (
    "-Duser.language=en",
    "-Duser.country=US",
    "-Duser.language.format=en",
    "-Duser.country.format=US",
    "-Dfile.encoding=UTF-8",
)
# Error messages of a Java that is older than version 8, or not installed.
OTHER_JAVA = ("UnsupportedClassVersionError", "Unable to locate a Java Runtime")
GET_JAVA = "install one (Debian: apt-get install default-jre-headless)."


class JavaError(Exception):
    """Java does not work.

    The message completes a sentence such as "METEOR needs Java 8 or newer, …".
    """


def ptb_tokens(texts):
    """Tokenize like pycocoevalcap's `PTBTokenizer`.

    `PTBTokenizer` itself is not used, because it writes a file to the folder of its package.
    """
    jar = pathlib.Path(ptbtokenizer.__file__).parent / ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR
    command = ["java", *JAVA_OPTIONS, "-cp", str(jar)]
    command += ["edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    # Java reads one caption per line; a line break in a caption would shift all later captions.
    lines = "".join(" ".join(text.splitlines()) + "\n" for text in texts)
    try:
        java = subprocess.run(
            command,
            input=lines.encode(errors="replace"),
            capture_output=True,
            env=_java_environment(),
        )
    except OSError as error:
        raise _no_java(error) from None
    tokenized = java.stdout.decode(errors="replace").split("\n")[:-1]
    if java.returncode or len(tokenized) != len(texts):
        raise _broken_java(java.stderr)
    dropped = set(ptbtokenizer.PUNCTUATIONS)
    return [
        " ".join(word for word in line.rstrip().split(" ") if word not in dropped)
        for line in tokenized
    ]


class MeteorProcess(Meteor):
    """METEOR's Java process.

    The process first loads tables for several seconds. The process ends when this object is
    deleted. After an error, the method `__del__` of pycocoevalcap's class would wait forever.

    Raises:
        OSError: Java does not start.
    """

    def __init__(self):
        command = ["java", *JAVA_OPTIONS, "-jar", "-Xmx2G", METEOR_JAR]
        self.meteor_p = subprocess.Popen(
            [*command, "-", "-", "-stdio", "-l", "en", "-norm"],
            cwd=pathlib.Path(inspect.getfile(Meteor)).parent,
            env=_java_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.lock = threading.Lock()

    def __del__(self):
        if process := getattr(self, "meteor_p", None):
            process.kill()
            process.communicate()


def start_meteor() -> MeteorProcess | bool:
    """Start METEOR in advance.

    If Java does not start, the result is True, so that `score` reports the reason.
    """
    try:
        return MeteorProcess()
    except OSError:
        return True


def meteor_scores(truths, answers, started):
    try:
        scorer = started if isinstance(started, MeteorProcess) else MeteorProcess()
    except OSError as error:
        raise _no_java(error) from None
    try:
        return scorer.compute_score(truths, answers)
    except (OSError, ValueError):
        scorer.meteor_p.kill()
        raise _broken_java(scorer.meteor_p.stderr.read()) from None


def _java_environment():
    """Return an environment that does not override `JAVA_OPTIONS`.

    If the current environment does not, the result is None.
    """
    name = "_JAVA_OPTIONS"  # it overrides the options of the command line
    if name not in os.environ:
        return None
    return {**os.environ, name: " ".join((os.environ[name], *JAVA_OPTIONS))}


def _no_java(error):
    if isinstance(error, FileNotFoundError):
        return JavaError(f"needs Java 8 or newer, `java` was not found on PATH; {GET_JAVA}")
    if isinstance(error, PermissionError) or error.errno == errno.ENOEXEC:
        reason = f"`java` did not start: {error.strerror}"
        return JavaError(f"needs Java 8 or newer, {reason}; {GET_JAVA}")
    return JavaError(f"could not start `java`: {error.strerror}; remove the cause and try again.")


def _broken_java(output):
    lines = map(str.strip, output.decode(errors="replace").splitlines())
    # Lists of options and lines of a stack trace do not contain the reason.
    lines = [line for line in lines if not line.startswith(("Picked up ", "at "))]
    reason = " ".join(" ".join(lines).split())[:200] or "no error message"
    if any(text in reason for text in OTHER_JAVA):
        return JavaError(f"needs Java 8 or newer, `java` failed: {reason}; {GET_JAVA}")
    return JavaError(f"could not be run, `java` failed: {reason}; remove the cause and try again.")
