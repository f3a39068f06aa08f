"""Who may answer a question in Airflow, where Airflow's users lie in its database (the FAB auth manager)."""

from __future__ import annotations

from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager
from airflow.providers.fab.auth_manager.models import User


class ByNameFabAuthManager(FabAuthManager):
    """FAB's auth manager, which knows assigned people by their user name, as a dataset file's `approvers` does.

    FAB itself compares the number of a user's row, which no person knows. Some parts of Airflow look for
    `FabAuthManager` in this class's name.
    """

    def is_authorized_hitl_task(self, *, assigned_users: set[str], user: User) -> bool:
        """Whether this user is one of those who are asked."""
        return user.username in assigned_users
