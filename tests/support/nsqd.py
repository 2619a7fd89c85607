"""nsqd and nsqlookupd, built from source."""

from __future__ import annotations

from tests.support.gobuild import Recipe, Workshop

_GO_MOD = """
module syncd-tests

go 1.21

require github.com/nsqio/nsq v1.3.0

replace github.com/judwhite/go-svc => github.com/mreiferson/go-svc v1.2.2-0.20210815184239-7a96e00010f6
"""


def _build(shop: Workshop) -> None:
    """Build with a go.mod of our own: nsq's has a `replace`, which `go install ...@v1.3.0` refuses."""
    (shop.folder / "go.mod").write_text(_GO_MOD)
    shop.go("install", "github.com/nsqio/nsq/apps/nsqd", "github.com/nsqio/nsq/apps/nsqlookupd")


RECIPE = Recipe("nsq", "1.3.0", programs=("nsqd", "nsqlookupd"), build=_build, inputs=(_GO_MOD,))
