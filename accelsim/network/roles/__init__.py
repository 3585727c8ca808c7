"""What each array of a file is: from its name, its siblings and its shape."""

from accelsim.network.roles.logical import Logical, as_2d, lowered, turned
from accelsim.network.roles.modules import read_roles
from accelsim.network.roles.role import Role, Roles

__all__ = ["Logical", "Role", "Roles", "as_2d", "lowered", "read_roles", "turned"]
