"""FAB's settings: people sign in with a user name and a password that Airflow's database holds."""

from airflow.configuration import conf
from flask_appbuilder.const import AUTH_DB

AUTH_TYPE = AUTH_DB
WTF_CSRF_ENABLED = True
# The other cookie of a sign-in, Airflow's token, follows the scheme of each request; FAB's has one answer for all of them.
SESSION_COOKIE_SECURE = conf.get("api", "base_url", fallback="").startswith("https:")
