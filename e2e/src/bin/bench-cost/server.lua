-- The server's side: a gate per worker, the load and the prefix on the answer.
local own, token, prefix = "primary", "mesh-token-1", "home-"
local policies = {
  below = {interval = 0.001, tolerance = 100, tat = 0, demand = 0, since = 0, rho = 0},
  bounce = {interval = 1000, tolerance = 15000, tat = 0, demand = 0, since = 0, rho = 0},
}

-- The demand over the last tenth of a second, against the limit, in thousandths.
local function count(policy, now, echo)
  policy.demand = policy.demand + echo
  local passed = now - policy.since
  if passed >= 100 then
    policy.rho = math.floor(1000 * policy.demand * policy.interval / passed)
    policy.demand, policy.since = 0, now
  end
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local policy, load = policies.below, nil
  local bounceable = false
  local hop = headers:get("x-spillway")
  local now = handle:timestamp()
  local echo = 1
  if hop ~= nil then
    local _, sent, home, id, n, flags = hop:match("^([^;]+);([^;]+);([^;]+);([^;]+);(%d+);(%a*)$")
    if sent == token and policies[id] ~= nil then
      policy = policies[id]
      echo = tonumber(n)
      local attempt = tonumber(headers:get("x-envoy-attempt-count") or "1")
      bounceable = flags:find("b", 1, true) ~= nil and attempt <= (home == own and 2 or 4)
      if policy.rho >= 800 or attempt > 1 or home ~= own then
        load = own .. ";" .. policy.rho .. ";" .. attempt
      end
    end
    headers:remove("x-spillway")
  end
  count(policy, now, echo)
  local tat = math.max(policy.tat, now)
  if tat - now > policy.tolerance and bounceable then
    handle:respond({
      [":status"] = "429",
      ["x-spillway-bounce"] = "1",
      ["x-spillway-load"] = load,
    }, "")
    return
  end
  policy.tat = math.min(tat + policy.interval, now + policy.tolerance + policy.interval)
  headers:remove("x-spillway-load")
  headers:remove("x-spillway-bounce")
  headers:remove("x-spillway-shed")
  headers:replace("x-spillway-prefix", prefix)
  handle:streamInfo():dynamicMetadata():set("spillway", "load", load or "")
end

function envoy_on_response(handle)
  local served = handle:streamInfo():dynamicMetadata():get("spillway")
  if served == nil then
    return
  end
  local headers = handle:headers()
  headers:remove("x-spillway")
  headers:remove("x-spillway-bounce")
  headers:remove("x-spillway-shed")
  if served.load == "" then
    headers:remove("x-spillway-load")
  else
    headers:replace("x-spillway-load", served.load)
  end
  headers:replace("x-spillway-prefix", prefix)
end
