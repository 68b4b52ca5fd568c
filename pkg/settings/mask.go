package settings

import (
	"regexp"
	"strings"
)

var (
	// addressStart is what an address begins with, in a list too. In the middle of a text
	// only schemes of servers count: a password may hold anything, also "://".
	addressStart = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*://|,\s*(?:nats|tls|wss?|https?)://`)
	// hosts are addresses in which nothing can be hidden: hosts with or without ports,
	// and a path.
	hosts = regexp.MustCompile(`^(?:` + host + `(?:,\s*` + host + `)*)?(?:/[^@]*)?$`)
	// query is the part of an address after its path.
	query = regexp.MustCompile(`[?#].*$`)
)

const host = `(?:[A-Za-z0-9_.*-]+|\[[0-9A-Fa-f:.%]+\])(?::[0-9]*)?`

// mask hides the credentials of an address or of a list of addresses, with or without
// schemes (NATS takes user:password@host and token@host): what stands before the last
// @, every query, and what is no address at all. It rather hides too much.
func mask(text string) string {
	starts := addressStart.FindAllStringIndex(text, -1)
	if len(starts) == 0 {
		if !strings.ContainsAny(text, "@=") {
			return text
		}
		return maskOne(text)
	}
	var masked strings.Builder
	masked.WriteString(maskOne(text[:starts[0][0]]))
	for i, at := range starts {
		end := len(text)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		masked.WriteString(text[at[0]:at[1]])
		address := maskOne(text[at[1]:end])
		if !strings.HasPrefix(address, hidden) && !hosts.MatchString(query.ReplaceAllString(address, "")) {
			address = hidden
		}
		masked.WriteString(address)
	}
	return masked.String()
}

const hidden = "***"

// maskOne masks an address without its scheme.
func maskOne(address string) string {
	tail := query.FindString(address)
	if strings.Contains(tail, "@") {
		return hidden // nobody can say what is what
	}
	address = strings.TrimSuffix(address, tail)
	if tail != "" {
		tail = tail[:1] + hidden
	}
	if at := strings.LastIndexByte(address, '@'); at >= 0 {
		address = hidden + address[at:]
	}
	return address + tail
}
