"""FAB's settings: people sign in with a user name and a password that Airflow's database holds."""

from flask_appbuilder.const import AUTH_DB

AUTH_TYPE = AUTH_DB
WTF_CSRF_ENABLED = True
