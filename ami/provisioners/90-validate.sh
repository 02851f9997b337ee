#!/bin/bash
# The proof: the firewall, the agent, and a frame of every Blender
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need KILN_VARIANT KILN_BLENDERS KILN_AGENT_BUCKET KILN_AGENT_REGION KILN_AGENT_KEY KILN_AGENT_SHA256

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
run="$(mktemp --directory)"
agents="$(mktemp --directory)"
scratch=/var/lib/kiln/node/validate
trap 'rm -rf "$run" "$agents" "$scratch"' EXIT
chmod 0755 "$run" "$agents"
python=/opt/kiln/venv/bin/python
metadata="${AWS_EC2_METADATA_SERVICE_ENDPOINT:-http://169.254.169.254}"

# ------------------------------------------------ out of Blender's reach
nft --file /usr/lib/kiln/firewall.nft
ask=(curl --silent --output /dev/null --max-time 5 --noproxy '*' --request PUT --header 'X-aws-ec2-metadata-token-ttl-seconds: 60')
"${ask[@]}" --fail "$metadata/latest/api/token" || die "the metadata service does not answer root: that Blender's user can't reach it proves nothing"
status=0
/usr/lib/kiln/as-blender "${ask[@]}" "$metadata/latest/api/token" || status=$?
[ "$status" -eq 7 ] || die "Blender's user is not refused by the metadata service (curl ended with $status, and 7 is a refusal)"
if "${ask[@]}" --fail 'http://[fd00:ec2::254]/latest/api/token'; then
    status=0
    /usr/lib/kiln/as-blender "${ask[@]}" 'http://[fd00:ec2::254]/latest/api/token' || status=$?
    [ "$status" -eq 7 ] || die "Blender's user is not refused by the metadata service over IPv6 (curl ended with $status)"
    echo "the metadata service is out of the reach of Blender's user, over IPv4 and IPv6"
else
    nft list chain inet kiln output | grep -qF 'fd00:ec2::254' || die "the firewall has no rule for the metadata service's IPv6 address"
    echo "the metadata service is out of the reach of Blender's user, over IPv4; over IPv6 it answers nobody here, and the rule is loaded"
fi

# ------------------------------------------------ nothing but rendering
as_blender="$(/usr/lib/kiln/as-blender /bin/sh -c 'id -u; grep -E "^(NoNewPrivs|CapBnd|CapEff)" /proc/self/status | cut -f 2; cat /proc/self/oom_score_adj')"
[ "$as_blender" = "$(printf '880\n0000000000000000\n0000000000000000\n1\n500')" ] ||
    die "as-blender does not give up what it should: $(tr '\n' ' ' <<<"$as_blender")"
for place in /etc/kiln-probe /opt/blender/kiln-probe /usr/lib/kiln/kiln-probe /var/lib/kiln/agent/kiln-probe /opt/kiln/kiln-probe; do
    ! /usr/lib/kiln/as-blender touch "$place" 2>/dev/null || die "Blender's user can write to $place"
done
echo "Blender's user can write where it renders, and has no right besides"

# ------------------------------------------------ the agent
printf '{"version": 1, "role": "build", "workspace": "s3", "projects_bucket": "%s", "region": "%s", "endpoint": "%s", "agent": "%s", "agent_sha256": "%s"}' \
    "$KILN_AGENT_BUCKET" "$KILN_AGENT_REGION" "${KILN_AGENT_ENDPOINT:-}" "$KILN_AGENT_KEY" "$KILN_AGENT_SHA256" >"$run/launch.json"
KILN_RUN="$run" KILN_AGENTS="$agents" "$python" -I /usr/lib/kiln/bootstrap.py --check
echo "the bootstrap fetches, verifies and unpacks the agent, and the image's Python imports it"

# ------------------------------------------------ a frame of every Blender
install --directory --owner root --group blender --mode 2775 "$scratch"
device=
[ "$KILN_VARIANT" != gpu ] || device=gpu
umask 0002
for entry in $KILN_BLENDERS; do
    PYTHONPATH="$agents/$KILN_AGENT_SHA256" "$python" "$here/validate.py" --blender "${entry%%=*}" --home "$scratch/${entry%%=*}" --device "$device"
done
