"""Search spaces: the choices, the constraints between them, and the networks that every study begins with."""

from nas.space.files import find_file, list_spaces, shipped_folder, shipped_names
from nas.space.landmarks import LANDMARKS, Landmark, landmark, landmarks
from nas.space.space import SearchSpace
from nas.space.vocabulary import Choose, Option

__all__ = [
    "LANDMARKS",
    "Choose",
    "Landmark",
    "Option",
    "SearchSpace",
    "find_file",
    "landmark",
    "landmarks",
    "list_spaces",
    "shipped_folder",
    "shipped_names",
]
