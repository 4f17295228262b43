"""Tell nbgrader where the course keeps its exercises; read when it runs in this folder.

nbgrader wants SOURCE/ASSIGNMENT/NOTEBOOK.ipynb, so each lesson's exercises are one assignment, in a
folder of the notebook's name: notebooks/solutions/03_quantization/03_quantization.ipynb. That way a
lesson can be released, collected and graded on its own:

    nbgrader generate_assignment 03_quantization --force   # or `make release` for all of them
    nbgrader autograde 03_quantization                     # submitted/STUDENT/03_quantization/
"""

import os
import sys
from pathlib import Path

c = get_config()  # noqa: F821  (nbgrader provides it)

# nbgrader starts `alembic` by its bare name: let it find the one that was installed beside it, also
# where the virtual environment is not activated.
os.environ["PATH"] = str(Path(sys.executable).parent) + os.pathsep + os.environ.get("PATH", "")

c.CourseDirectory.course_id = "shrinkkit"
c.CourseDirectory.root = str(Path(__file__).resolve().parent)
c.CourseDirectory.source_directory = "notebooks/solutions"
c.CourseDirectory.release_directory = "notebooks/exercises"

c.ClearSolutions.code_stub = {"python": "# Your code here.\nraise NotImplementedError()"}

# A check that a student deleted by accident is put back, so that it is graded and not missing.
c.OverwriteCells.add_missing_cells = True

# Importing torch on a busy machine takes longer than nbgrader's 30 seconds.
c.Execute.timeout = 180
