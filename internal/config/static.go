package config

import "time"

// Static is the configuration read once at start. There is one schema for
// TOML, YAML, flags, the environment and the key-value store; a Traefik 1.5
// or 1.7 file is a valid instance of it, deprecated names included.
//
// The tag key is the name people write (matched case-insensitively), help one
// line for the list of flags, note "deprecated" marks names that Normalize
// moves to their new place. A section that is a pointer is off when nil;
// sections with a SetDefaults method get those values when switched on.
//
// A Static comes from Load or Overlay, is not changed afterwards, and may then
// be read from any goroutine.
type Static struct {
	Debug              bool   `key:"debug" help:"log level DEBUG, and debug routes in the API"`
	LogLevel           string `key:"logLevel" help:"debug, info, warn, error, fatal or panic"`
	CheckNewVersion    bool   `key:"checkNewVersion" help:"accepted, without effect: Gatehouse never calls home"`
	SendAnonymousUsage bool   `key:"sendAnonymousUsage" help:"accepted, without effect: Gatehouse never calls home"`

	GraceTimeOut    Duration    `key:"graceTimeOut" note:"deprecated" help:"now lifeCycle.graceTimeOut"`
	LifeCycle       *LifeCycle  `key:"lifeCycle" help:"how to stop"`
	TraefikLogsFile string      `key:"traefikLogsFile" note:"deprecated" help:"now traefikLog.filePath"`
	AccessLogsFile  string      `key:"accessLogsFile" note:"deprecated" help:"now accessLog.filePath"`
	TraefikLog      *TraefikLog `key:"traefikLog" help:"the program's own log"`
	AccessLog       *AccessLog  `key:"accessLog" help:"one line per request"`

	EntryPoints        map[string]*EntryPoint `key:"entryPoints" help:"where requests come in"`
	DefaultEntryPoints []string               `key:"defaultEntryPoints" help:"entry points of routers that name none"`

	ProvidersThrottleDuration Duration            `key:"providersThrottleDuration" help:"shortest time between two changes from one provider"`
	MaxIdleConnsPerHost       int                 `key:"maxIdleConnsPerHost" help:"idle connections kept per server"`
	IdleTimeout               Duration            `key:"idleTimeout" note:"deprecated" help:"now respondingTimeouts.idleTimeout"`
	InsecureSkipVerify        bool                `key:"insecureSkipVerify" help:"do not verify servers' certificates"`
	RootCAs                   []string            `key:"rootCAs" help:"CAs that servers' certificates may come from: paths or PEM"`
	Constraints               []string            `key:"constraints" help:"tag==glob or tag!=glob"`
	Retry                     *Retry              `key:"retry" help:"try another server after a connection error"`
	HealthCheck               *HealthCheckDefault `key:"healthCheck" help:"defaults of health checks"`
	RespondingTimeouts        *RespondingTimeouts `key:"respondingTimeouts" help:"time limits towards clients"`
	ForwardingTimeouts        *ForwardingTimeouts `key:"forwardingTimeouts" help:"time limits towards servers"`
	AllowMinWeightZero        bool                `key:"allowMinWeightZero" help:"accepted: weight 0 always means no requests"`
	KeepTrailingSlash         bool                `key:"keepTrailingSlash" help:"accepted: paths are never redirected for a slash"`
	HostResolver              *HostResolver       `key:"hostResolver" help:"CNAME flattening for Host rules"`
	Tracing                   *Tracing            `key:"tracing" help:"where spans are sent"`

	Cluster   *Cluster   `key:"cluster" help:"this replica among the others"`
	Store     *Store     `key:"store" help:"where certificates and shared state are kept"`
	Etcd      *Etcd      `key:"etcd" help:"etcd: configuration, and the store of all replicas"`
	Consul    *Consul    `key:"consul" help:"Consul as a source of configuration"`
	Zookeeper *Zookeeper `key:"zookeeper" help:"ZooKeeper as a source of configuration"`
	BoltDB    *BoltDB    `key:"boltdb" help:"BoltDB as a source of configuration"`

	ACME    *ACME    `key:"acme" help:"certificates by ACME"`
	LocalCA *LocalCA `key:"localCA" help:"certificates from a CA of our own, for development"`

	Web     *Web     `key:"web" note:"deprecated" help:"now api, ping, metrics and the entry point traefik"`
	API     *API     `key:"api" help:"status API and dashboard"`
	Ping    *Ping    `key:"ping" help:"/ping and /ready"`
	Rest    *Rest    `key:"rest" help:"routing configuration by PUT"`
	Metrics *Metrics `key:"metrics" help:"where figures are sent"`

	Kubernetes *Kubernetes `key:"kubernetes" help:"Ingresses as a source of configuration"`
	File       *File       `key:"file" help:"files as a source of configuration"`

	// origins says where each key was written, by lower-case dotted path. It
	// lets validation after decoding still name file, line and column, and
	// tells what was set from what is a default.
	origins map[string]Origin
}

// Defaults gives what holds where nobody says anything: the values of Traefik
// 1.5, except that logLevel is INFO (warnings must be seen) and forwarded
// headers are not trusted.
func Defaults() *Static {
	return &Static{
		LogLevel:                  "INFO",
		CheckNewVersion:           true,
		DefaultEntryPoints:        []string{"http"},
		ProvidersThrottleDuration: Duration(2 * time.Second),
		MaxIdleConnsPerHost:       200,
		HealthCheck:               &HealthCheckDefault{Interval: Duration(30 * time.Second)},
		Store: &Store{
			Directory: "/var/lib/gatehouse",
			Prefix:    "/gatehouse",
			TTL:       Duration(5 * time.Second),
		},
	}
}

// LifeCycle says how a replica stops.
type LifeCycle struct {
	RequestAcceptGraceTimeout Duration `key:"requestAcceptGraceTimeout" help:"go on accepting for this long after SIGTERM"`
	GraceTimeOut              Duration `key:"graceTimeOut" help:"time for requests in flight"`
}

// SetDefaults gives ten seconds to requests in flight.
func (l *LifeCycle) SetDefaults() { l.GraceTimeOut = Duration(10 * time.Second) }

// TraefikLog is the program's own log. FilePath "" is standard error.
type TraefikLog struct {
	FilePath string `key:"filePath" help:"file; empty: standard error"`
	Format   string `key:"format" help:"common or json"`
}

// SetDefaults chooses the common form.
func (l *TraefikLog) SetDefaults() { l.Format = "common" }

// AccessLog is one line per request. FilePath "" is standard output.
type AccessLog struct {
	FilePath      string            `key:"filePath" help:"file; empty: standard output"`
	Format        string            `key:"format" help:"common (CLF) or json"`
	BufferingSize int               `key:"bufferingSize" help:"lines kept before they are written"`
	Filters       *AccessLogFilters `key:"filters" help:"which requests are logged"`
	Fields        *AccessLogFields  `key:"fields" help:"which fields are logged"`
}

// SetDefaults chooses the common log format.
func (l *AccessLog) SetDefaults() { l.Format = "common" }

// AccessLogFilters keep a request if any of them matches.
type AccessLogFilters struct {
	StatusCodes   []string `key:"statusCodes" help:"codes or ranges: 404, 500-599"`
	RetryAttempts bool     `key:"retryAttempts" help:"keep requests that were tried again"`
	MinDuration   Duration `key:"minDuration" help:"keep requests that took at least this long"`
}

// AccessLogFields says what happens to each field: keep, drop or redact.
type AccessLogFields struct {
	DefaultMode string                  `key:"defaultMode" help:"keep or drop"`
	Names       map[string]string       `key:"names" help:"field: keep or drop"`
	Headers     *AccessLogHeadersFields `key:"headers" help:"which request headers are logged"`
}

// SetDefaults keeps all fields.
func (f *AccessLogFields) SetDefaults() { f.DefaultMode = "keep" }

// AccessLogHeadersFields says what happens to each header.
type AccessLogHeadersFields struct {
	DefaultMode string            `key:"defaultMode" help:"keep, drop or redact"`
	Names       map[string]string `key:"names" help:"header: keep, drop or redact"`
}

// SetDefaults drops all headers, as Traefik 1.7's JSON log does for secrets.
func (f *AccessLogHeadersFields) SetDefaults() { f.DefaultMode = "drop" }

// Retry tries another server after a connection error. Attempts 0: as many as
// the service has servers.
type Retry struct {
	Attempts int `key:"attempts" help:"0: as many as there are servers"`
}

// HealthCheckDefault is what health checks use that say nothing themselves.
type HealthCheckDefault struct {
	Interval Duration `key:"interval" help:"time between two checks"`
}

// RespondingTimeouts are the limits towards clients. 0: none.
type RespondingTimeouts struct {
	ReadTimeout  Duration `key:"readTimeout" help:"whole request; 0: none"`
	WriteTimeout Duration `key:"writeTimeout" help:"whole answer; 0: none"`
	IdleTimeout  Duration `key:"idleTimeout" help:"between two requests"`
}

// SetDefaults lets connections idle for three minutes.
func (t *RespondingTimeouts) SetDefaults() { t.IdleTimeout = Duration(180 * time.Second) }

// ForwardingTimeouts are the limits towards servers. 0: none.
type ForwardingTimeouts struct {
	DialTimeout           Duration `key:"dialTimeout" help:"connecting to a server"`
	ResponseHeaderTimeout Duration `key:"responseHeaderTimeout" help:"waiting for the head of the answer; 0: none"`
}

// SetDefaults gives half a minute for connecting.
func (t *ForwardingTimeouts) SetDefaults() { t.DialTimeout = Duration(30 * time.Second) }

// HostResolver flattens CNAMEs for Host rules.
type HostResolver struct {
	CnameFlattening bool   `key:"cnameFlattening" help:"follow CNAMEs of the request's host"`
	ResolvConfig    string `key:"resolvConfig" help:"resolv.conf to use"`
	ResolvDepth     int    `key:"resolvDepth" help:"CNAMEs followed at most"`
}

// SetDefaults uses the system's resolvers, five steps deep.
func (h *HostResolver) SetDefaults() { h.ResolvConfig, h.ResolvDepth = "/etc/resolv.conf", 5 }

// Cluster names this replica. Node "": a random name per start.
type Cluster struct {
	Node string `key:"node" help:"name of this replica; empty: host name and a random part"`
	Bind string `key:"bind" help:"host for entry points whose address names none; for several replicas on one machine"`
}
