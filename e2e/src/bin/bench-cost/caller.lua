-- The caller's side: a gate per worker, one header to the server's sidecar, and its answers read.
local policies = {
  ["worker-service.default.svc.cluster.local"] = {
    home = "primary;mesh-token-1;primary;below;",
    rung = "burst;mesh-token-1;primary;below;",
    interval = 0.001, -- ms between requests at the limit
    tolerance = 15,
    tat = 0,
    echo = 0,
    rho = {},
  },
}

function envoy_on_request(handle)
  local headers = handle:headers()
  headers:remove("x-spillway-load")
  headers:remove("x-spillway-bounce")
  headers:remove("x-spillway-shed")
  headers:remove("x-spillway-prefix")
  local host = headers:get(":authority")
  local policy = policies[host]
  if policy == nil then
    headers:remove("x-spillway")
    return
  end
  local bounceable = headers:get("upgrade") == nil
  if bounceable then
    local length = headers:get("content-length")
    bounceable = length == nil or tonumber(length) <= 65536
  end
  local now = handle:timestamp()
  local tat = math.max(policy.tat, now)
  local start = policy.rung
  if tat - now <= policy.tolerance then
    policy.tat = tat + policy.interval
    start = policy.home
  end
  policy.echo = policy.echo + 1
  headers:replace("x-spillway", start .. policy.echo .. ";" .. (bounceable and "b" or ""))
  policy.echo = 0
  handle:streamInfo():dynamicMetadata():set("spillway", "host", host)
end

function envoy_on_response(handle)
  local sent = handle:streamInfo():dynamicMetadata():get("spillway")
  if sent == nil then
    return
  end
  local headers = handle:headers()
  local load = headers:get("x-spillway-load")
  if load ~= nil then
    local cluster, rho = load:match("^([^;]+);(%d+);(%d+)$")
    if cluster ~= nil then
      policies[sent.host].rho[cluster] = tonumber(rho)
    end
    headers:remove("x-spillway-load")
  end
  headers:remove("x-spillway")
  headers:remove("x-spillway-bounce")
  headers:remove("x-spillway-shed")
end
