package config

// renamed are the names of 1.x that have a new place. Each that is set is
// warned of once, with the new spelling; Normalize does the moving. An
// asterisk stands for one name.
var renamed = []struct{ old, new string }{
	{"graceTimeOut", "lifeCycle.graceTimeOut"},
	{"idleTimeout", "respondingTimeouts.idleTimeout"},
	{"traefikLogsFile", "traefikLog.filePath"},
	{"accessLogsFile", "accessLog.filePath"},
	{"entryPoints.*.whitelistSourceRange", "entryPoints.*.whiteList.sourceRange"},
	{"entryPoints.*.tls.clientCAFiles", "entryPoints.*.tls.clientCA.files"},
	{"web", "api, ping, metrics and the entry point traefik"},
	{"acme.dnsProvider", "acme.dnsChallenge.provider"},
	{"acme.delayDontCheckDNS", "acme.dnsChallenge.delayBeforeCheck"},
	{"acme.storageFile", "the command storeconfig --import-acme FILE"},
	{"acme.onDemand", "acme.onHostRule or acme.domains"},
}

// Reasons why a key is accepted and has no effect.
const (
	later      = "not in force yet"
	closed     = "not in force yet: requests are refused meanwhile"
	noTemplate = "without effect: there are no templates"
	noCalls    = "without effect: Gatehouse never calls home"
	noTrace    = "without effect: use debug"
)

// notInForce are the keys that are accepted and do nothing in this version.
// Each that is set to something else than its default is warned of at start.
var notInForce = []struct{ key, why string }{
	{"checkNewVersion", noCalls},
	{"sendAnonymousUsage", noCalls},
	{"constraints", later},
	{"providersThrottleDuration", "without effect: changes are in force after 100 ms of quiet, after 2 s at the latest"},
	{"hostResolver", later},
	{"tracing", later},
	{"accessLog.bufferingSize", later},
	{"accessLog.filters", later},
	{"accessLog.fields", later},
	{"entryPoints.*.network", "without effect: the address says it"},
	{"entryPoints.*.auth.digest", closed},
	{"entryPoints.*.auth.forward", closed},
	{"web.auth.digest", closed},
	{"web.auth.forward", closed},
	{"web.path", "without effect: the API is served at /api"},
	{"web.metrics", later},
	{"metrics.prometheus.buckets", later},
	{"metrics.datadog", later},
	{"metrics.statsd", later},
	{"metrics.influxdb", later},
	{"rest", later},
	{"kubernetes.constraints", later},
	{"kubernetes.enablePassTLSCert", later},
	{"kubernetes.filename", noTemplate},
	{"kubernetes.throttleDuration", "without effect: changes are in force within half a second"},
	{"kubernetes.trace", noTrace},
	{"kubernetes.debugLogGeneratedTemplate", noTemplate},
	{"consul", later},
	{"zookeeper", later},
	{"boltdb", later},
	{"acme.onDemand", "without effect: an unknown server name starts an order only where acme.onDemandPolicy permits it"},
	{"etcd.constraints", later},
	{"etcd.filename", noTemplate},
	{"etcd.trace", noTrace},
	{"etcd.debugLogGeneratedTemplate", noTemplate},
	{"file.constraints", later},
	{"file.trace", noTrace},
	{"file.debugLogGeneratedTemplate", noTemplate},
}

// deadDirectories are ACME v1 addresses that no longer answer, and what they
// became.
var deadDirectories = map[string]string{
	"https://acme-v01.api.letsencrypt.org/directory":     LetsEncrypt,
	"https://acme-staging.api.letsencrypt.org/directory": LetsEncryptStaging,
}

// keyTypes are the kinds of certificate keys; the first is the default.
var keyTypes = []string{"EC256", "EC384", "RSA2048", "RSA4096", "RSA8192"}

// tlsProfiles are those of Mozilla's guideline that are safe.
var tlsProfiles = []string{"intermediate", "modern"}

// tlsVersions are the names for minVersion.
var tlsVersions = []string{"VersionTLS10", "VersionTLS11", "VersionTLS12", "VersionTLS13"}

// logLevels are the words for logLevel.
var logLevels = []string{"debug", "info", "warn", "warning", "error", "fatal", "panic"}
