package middleware

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"gatehouse/internal/config"
	"gatehouse/internal/http1"
	"gatehouse/internal/wire"
)

// BasicAuth lets pass who knows a user's password.
type BasicAuth struct {
	Users        []config.Secret `key:"users"`     // "user:hash"
	UsersFile    string          `key:"usersFile"` // the same, one a line; wins on equal names
	Realm        string          `key:"realm"`     // "": traefik
	RemoveHeader bool            `key:"removeHeader"`
	HeaderField  string          `key:"headerField"` // request header that gets the user's name
}

// maxUsersFile bounds what is read of a users file.
const maxUsersFile = 16 << 20

// Build reads the users; a users file is read now, and again with each change
// of the configuration.
func (p BasicAuth) Build(env Env) (Middleware, []config.Problem) {
	users, problems := p.users(env)
	if len(users) == 0 && !hasError(problems) {
		problems = append(problems, env.problem("users", "no user is given", `a list of "user:hash", or usersFile`))
	}
	realm := p.Realm
	if realm == "" {
		realm = "traefik"
	}
	if strings.ContainsFunc(realm, func(c rune) bool { return c < 0x20 || c == 0x7f }) {
		problems = append(problems, env.problem("realm", "has control characters", "one line of text"))
	}
	if hasError(problems) {
		return Middleware{}, problems
	}
	challenge := `Basic realm="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(realm) + `"`
	header := http.CanonicalHeaderKey(p.HeaderField)
	door := newPasswordDoor(users)
	return Middleware{Stage: p.stage(door), Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			user, password, ok := credentials(r.Header.Get("Authorization"))
			if !ok || !door.opens(r.Context(), user, password) {
				w.Header().Set("WWW-Authenticate", challenge)
				http.Error(w, "401 unauthorized", http.StatusUnauthorized)
				return
			}
			RecordFrom(r.Context()).User = user
			if header != "" {
				r.Header[header] = []string{user}
			}
			if p.RemoveHeader {
				delete(r.Header, "Authorization")
			}
			next.ServeHTTP(w, r)
		})
	}}, problems
}

// stage lets pass whose password was found right a moment ago.
func (p BasicAuth) stage(door *passwordDoor) Stage {
	const authorization = "Authorization"
	said, ok := http1.NewEdit(http.CanonicalHeaderKey(p.HeaderField), "-")
	if p.HeaderField != "" && !ok {
		return Stage{}
	}
	remove, _ := http1.NewEdit(authorization, "")
	return Stage{Pass: func(x *wire.Exchange) bool {
		user, password, ok := credentials((*staged)(x).first(authorization))
		if !ok || !door.remembers(door.digest(user, password)) {
			return false
		}
		x.User = user
		if p.HeaderField != "" {
			said := said.With(user)
			if !x.Req.Edit(&said) {
				return false
			}
		}
		return !p.RemoveHeader || x.Req.Edit(&remove)
	}}
}

// credentials reads an Authorization header (RFC 7617).
func credentials(authorization string) (user, password string, ok bool) {
	scheme, encoded, ok := strings.Cut(authorization, " ")
	if !ok || !strings.EqualFold(scheme, "Basic") {
		return "", "", false
	}
	text, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(text), ":")
}

// users collects the lines of both places.
func (p BasicAuth) users(env Env) (map[string]passwordHash, []config.Problem) {
	users := make(map[string]passwordHash)
	var problems []config.Problem
	for i, line := range p.Users {
		name, hash, err := parseUser(line.Reveal())
		if err != nil {
			problems = append(problems, env.problemAt("users", i, err.Error(), userForms))
			continue
		}
		users[name] = hash
	}
	if p.UsersFile == "" {
		return users, problems
	}
	if env.Reads != nil {
		env.Reads()
	}
	f, err := os.Open(p.UsersFile)
	if err != nil {
		return nil, append(problems, env.problem("usersFile", "cannot be read: "+err.Error(), "a file of user:hash lines"))
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for number, size := 1, 0; lines.Scan(); number++ {
		if size += len(lines.Bytes()) + 1; size > maxUsersFile {
			return nil, append(problems, env.problem("usersFile", "is too large", "at most 16 MiB"))
		}
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, hash, err := parseUser(line)
		if err != nil {
			bad := env.problem("usersFile", err.Error(), userForms)
			bad.Origin = config.Origin{Provider: env.Origin.Provider, Source: p.UsersFile, Line: number}
			problems = append(problems, bad)
			continue
		}
		users[name] = hash
	}
	if err := lines.Err(); err != nil {
		problems = append(problems, env.problem("usersFile", "cannot be read: "+err.Error(), "a file of user:hash lines"))
	}
	return users, problems
}

// userForms is what a user line may look like.
const userForms = "user:hash as htpasswd writes it: bcrypt ($2y$...), MD5 ($apr1$..., $1$...) or {SHA}"

// parseUser parts a line; errors never show the hash.
func parseUser(line string) (name string, hash passwordHash, err error) {
	name, text, found := strings.Cut(strings.TrimSpace(line), ":")
	switch {
	case !found:
		return "", nil, errors.New("user line without a colon")
	case strings.Contains(text, ":"):
		return "", nil, errors.New("user line with more than one colon")
	case name == "":
		return "", nil, errors.New("user line without a name")
	case strings.ContainsFunc(name, func(c rune) bool { return c < 0x20 || c == 0x7f }):
		return "", nil, fmt.Errorf("user name %q has control characters", name)
	}
	hash, err = parseHash(text)
	if err != nil {
		return "", nil, fmt.Errorf("user %q: %w", name, err)
	}
	return name, hash, nil
}
