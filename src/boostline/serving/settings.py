"""Settings of the REST service, from the environment (`BOOSTLINE_SERVE_*`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from boostline.scoring.engine import allowed_threads
from boostline.settings import Environment

Share = Annotated[float, Field(ge=0, le=1)]


class ServeSettings(Environment):
    """What one service process may do. Sizes in bytes, times in seconds."""

    model_config = SettingsConfigDict(env_prefix="BOOSTLINE_SERVE_")

    host: str = Field("127.0.0.1", description="Address to listen at; any but loopback asks for a tokens file")
    port: int = Field(8000, ge=0, le=65535, description="0 takes a free one")
    tokens_file: Path | None = Field(None, description="Lines of `NAME TOKEN`, mode 0600; read again when it changes")
    poll_seconds: float = Field(3, gt=0, le=60, description="How often the registry is asked for the aliases")
    challenger_share: dict[str, Share] = Field(
        {}, description="A/B: dataset → share of keys that the challenger answers"
    )
    shadow: frozenset[str] = Field(frozenset(), description="Datasets whose challenger is scored in the background")
    max_body_bytes: int = Field(
        32 * 1024**2, ge=1024, description="A larger body is refused (413); all PMML documents together too"
    )
    max_rows: int = Field(100_000, ge=1, description="More rows in one request are refused (413)")
    max_explain_rows: int = Field(1_000, ge=1, description="With explain=true; SHAP costs far more than a prediction")
    requests_per_second: int = Field(500, ge=1, description="Of one token, or of one address without one")
    threads: int = Field(
        default_factory=lambda: allowed_threads(2**16), ge=1, description="Requests that are scored at one time"
    )
    max_waiting: int = Field(64, ge=0, description="Requests that may wait for a thread; more are refused (503)")
    timeout_seconds: float = Field(30, gt=0, description="For one request, its body included")
    shutdown_seconds: int = Field(30, ge=1, description="That requests under way get to finish when the service stops")

    @property
    def max_decoded_bytes(self) -> int:
        """Of an Arrow stream's dictionaries and string views, written out."""
        return 4 * self.max_body_bytes
