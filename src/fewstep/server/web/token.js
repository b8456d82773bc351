// The secret that the server may want to see: it comes once in the address, leaves it at once, and stays for the visit.

export function takeToken() {
  const url = new URL(location.href);
  const given = url.searchParams.get("token");
  if (given) {
    sessionStorage.setItem("fewstep.token", given);
    url.searchParams.delete("token");
    window.history.replaceState(null, "", url);
  }
  return sessionStorage.getItem("fewstep.token");
}

export function authorized(token, headers = {}) {
  return token ? { ...headers, authorization: `Bearer ${token}` } : headers;
}
