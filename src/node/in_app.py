"""Runs a command as the application's own processes run: their environment, directory and Python."""

import os
import runpy
import sys

settings = runpy.run_path(sys.argv[1])
os.environ.update(line.split("=", 1) for line in settings["raw_env"])
os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ.get("PATH", os.defpath)
os.chdir(settings["chdir"])
command = sys.argv[2:]
if command[0].endswith(".py"):
    command.insert(0, sys.executable)
try:
    os.execvp(command[0], command)
except OSError as error:
    sys.exit(f"{command[0]}: {error.strerror}; it is looked for in the application's environment and on PATH")
