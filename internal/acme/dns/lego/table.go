//go:build lego

package lego

import (
	"github.com/go-acme/lego/v5/providers/dns/abion"
	"github.com/go-acme/lego/v5/providers/dns/active24"
	"github.com/go-acme/lego/v5/providers/dns/allinkl"
	"github.com/go-acme/lego/v5/providers/dns/alwaysdata"
	"github.com/go-acme/lego/v5/providers/dns/anexia"
	"github.com/go-acme/lego/v5/providers/dns/artfiles"
	"github.com/go-acme/lego/v5/providers/dns/arvancloud"
	"github.com/go-acme/lego/v5/providers/dns/auroradns"
	"github.com/go-acme/lego/v5/providers/dns/autodns"
	"github.com/go-acme/lego/v5/providers/dns/axelname"
	"github.com/go-acme/lego/v5/providers/dns/baiducloud"
	"github.com/go-acme/lego/v5/providers/dns/beget"
	"github.com/go-acme/lego/v5/providers/dns/binarylane"
	"github.com/go-acme/lego/v5/providers/dns/bindman"
	"github.com/go-acme/lego/v5/providers/dns/bluecat"
	"github.com/go-acme/lego/v5/providers/dns/bluecatv2"
	"github.com/go-acme/lego/v5/providers/dns/bookmyname"
	"github.com/go-acme/lego/v5/providers/dns/bunny"
	"github.com/go-acme/lego/v5/providers/dns/checkdomain"
	"github.com/go-acme/lego/v5/providers/dns/civo"
	"github.com/go-acme/lego/v5/providers/dns/clouddns"
	"github.com/go-acme/lego/v5/providers/dns/cloudns"
	"github.com/go-acme/lego/v5/providers/dns/cloudru"
	"github.com/go-acme/lego/v5/providers/dns/com35"
	"github.com/go-acme/lego/v5/providers/dns/connbyte"
	"github.com/go-acme/lego/v5/providers/dns/conoha"
	"github.com/go-acme/lego/v5/providers/dns/conohav3"
	"github.com/go-acme/lego/v5/providers/dns/constellix"
	"github.com/go-acme/lego/v5/providers/dns/corenetworks"
	"github.com/go-acme/lego/v5/providers/dns/cpanel"
	"github.com/go-acme/lego/v5/providers/dns/curanet"
	"github.com/go-acme/lego/v5/providers/dns/czechia"
	"github.com/go-acme/lego/v5/providers/dns/dandomain"
	"github.com/go-acme/lego/v5/providers/dns/ddnss"
	"github.com/go-acme/lego/v5/providers/dns/derak"
	"github.com/go-acme/lego/v5/providers/dns/desec"
	"github.com/go-acme/lego/v5/providers/dns/designate"
	"github.com/go-acme/lego/v5/providers/dns/dinahosting"
	"github.com/go-acme/lego/v5/providers/dns/directadmin"
	"github.com/go-acme/lego/v5/providers/dns/dns51"
	"github.com/go-acme/lego/v5/providers/dns/dnscale"
	"github.com/go-acme/lego/v5/providers/dns/dnsexit"
	"github.com/go-acme/lego/v5/providers/dns/dnshomede"
	"github.com/go-acme/lego/v5/providers/dns/dnsla"
	"github.com/go-acme/lego/v5/providers/dns/dnsmadeeasy"
	"github.com/go-acme/lego/v5/providers/dns/dnsservices"
	"github.com/go-acme/lego/v5/providers/dns/dode"
	"github.com/go-acme/lego/v5/providers/dns/domeneshop"
	"github.com/go-acme/lego/v5/providers/dns/dreamhost"
	"github.com/go-acme/lego/v5/providers/dns/duckdns"
	"github.com/go-acme/lego/v5/providers/dns/dyn"
	"github.com/go-acme/lego/v5/providers/dns/dynadot"
	"github.com/go-acme/lego/v5/providers/dns/dyndnsfree"
	"github.com/go-acme/lego/v5/providers/dns/dynu"
	"github.com/go-acme/lego/v5/providers/dns/easydns"
	"github.com/go-acme/lego/v5/providers/dns/edgecenter"
	"github.com/go-acme/lego/v5/providers/dns/efficientip"
	"github.com/go-acme/lego/v5/providers/dns/epik"
	"github.com/go-acme/lego/v5/providers/dns/eurodns"
	"github.com/go-acme/lego/v5/providers/dns/euserv"
	"github.com/go-acme/lego/v5/providers/dns/excedo"
	"github.com/go-acme/lego/v5/providers/dns/exoscale"
	"github.com/go-acme/lego/v5/providers/dns/f5xc"
	"github.com/go-acme/lego/v5/providers/dns/fornex"
	"github.com/go-acme/lego/v5/providers/dns/freemyip"
	"github.com/go-acme/lego/v5/providers/dns/gandi"
	"github.com/go-acme/lego/v5/providers/dns/gandiv5"
	"github.com/go-acme/lego/v5/providers/dns/gcore"
	"github.com/go-acme/lego/v5/providers/dns/gehirn"
	"github.com/go-acme/lego/v5/providers/dns/gigahostno"
	"github.com/go-acme/lego/v5/providers/dns/glesys"
	"github.com/go-acme/lego/v5/providers/dns/gname"
	"github.com/go-acme/lego/v5/providers/dns/godaddy"
	"github.com/go-acme/lego/v5/providers/dns/gravity"
	"github.com/go-acme/lego/v5/providers/dns/hetzner"
	"github.com/go-acme/lego/v5/providers/dns/hostingde"
	"github.com/go-acme/lego/v5/providers/dns/hostinger"
	"github.com/go-acme/lego/v5/providers/dns/hostingnl"
	"github.com/go-acme/lego/v5/providers/dns/hosttech"
	"github.com/go-acme/lego/v5/providers/dns/hostup"
	"github.com/go-acme/lego/v5/providers/dns/httpnet"
	"github.com/go-acme/lego/v5/providers/dns/hurricane"
	"github.com/go-acme/lego/v5/providers/dns/hyperone"
	"github.com/go-acme/lego/v5/providers/dns/ibmcloud"
	"github.com/go-acme/lego/v5/providers/dns/iijdpf"
	"github.com/go-acme/lego/v5/providers/dns/infoblox"
	"github.com/go-acme/lego/v5/providers/dns/infomaniak"
	"github.com/go-acme/lego/v5/providers/dns/internetbs"
	"github.com/go-acme/lego/v5/providers/dns/inwx"
	"github.com/go-acme/lego/v5/providers/dns/ionos"
	"github.com/go-acme/lego/v5/providers/dns/ionoscloud"
	"github.com/go-acme/lego/v5/providers/dns/ipv64"
	"github.com/go-acme/lego/v5/providers/dns/ispconfig"
	"github.com/go-acme/lego/v5/providers/dns/ispconfigddns"
	"github.com/go-acme/lego/v5/providers/dns/jdcloud"
	"github.com/go-acme/lego/v5/providers/dns/joker"
	"github.com/go-acme/lego/v5/providers/dns/katapult"
	"github.com/go-acme/lego/v5/providers/dns/keyhelp"
	"github.com/go-acme/lego/v5/providers/dns/leaseweb"
	"github.com/go-acme/lego/v5/providers/dns/liara"
	"github.com/go-acme/lego/v5/providers/dns/lightsail"
	"github.com/go-acme/lego/v5/providers/dns/limacity"
	"github.com/go-acme/lego/v5/providers/dns/linode"
	"github.com/go-acme/lego/v5/providers/dns/liquidweb"
	"github.com/go-acme/lego/v5/providers/dns/loopia"
	"github.com/go-acme/lego/v5/providers/dns/luadns"
	"github.com/go-acme/lego/v5/providers/dns/mailinabox"
	"github.com/go-acme/lego/v5/providers/dns/manageengine"
	"github.com/go-acme/lego/v5/providers/dns/metaname"
	"github.com/go-acme/lego/v5/providers/dns/metaregistrar"
	"github.com/go-acme/lego/v5/providers/dns/mijnhost"
	"github.com/go-acme/lego/v5/providers/dns/mittwald"
	"github.com/go-acme/lego/v5/providers/dns/myaddr"
	"github.com/go-acme/lego/v5/providers/dns/mydnsjp"
	"github.com/go-acme/lego/v5/providers/dns/mythicbeasts"
	"github.com/go-acme/lego/v5/providers/dns/namecheap"
	"github.com/go-acme/lego/v5/providers/dns/namedotcom"
	"github.com/go-acme/lego/v5/providers/dns/namesilo"
	"github.com/go-acme/lego/v5/providers/dns/namesurfer"
	"github.com/go-acme/lego/v5/providers/dns/nearlyfreespeech"
	"github.com/go-acme/lego/v5/providers/dns/nederhost"
	"github.com/go-acme/lego/v5/providers/dns/neodigit"
	"github.com/go-acme/lego/v5/providers/dns/netcup"
	"github.com/go-acme/lego/v5/providers/dns/netlify"
	"github.com/go-acme/lego/v5/providers/dns/netnod"
	"github.com/go-acme/lego/v5/providers/dns/nexdns"
	"github.com/go-acme/lego/v5/providers/dns/ngenix"
	"github.com/go-acme/lego/v5/providers/dns/nicmanager"
	"github.com/go-acme/lego/v5/providers/dns/nicru"
	"github.com/go-acme/lego/v5/providers/dns/nifcloud"
	"github.com/go-acme/lego/v5/providers/dns/njalla"
	"github.com/go-acme/lego/v5/providers/dns/nodion"
	"github.com/go-acme/lego/v5/providers/dns/ns1"
	"github.com/go-acme/lego/v5/providers/dns/octenium"
	"github.com/go-acme/lego/v5/providers/dns/omglol"
	"github.com/go-acme/lego/v5/providers/dns/onecloudru"
	"github.com/go-acme/lego/v5/providers/dns/onlinenet"
	"github.com/go-acme/lego/v5/providers/dns/openprovider"
	"github.com/go-acme/lego/v5/providers/dns/opusdns"
	"github.com/go-acme/lego/v5/providers/dns/otc"
	"github.com/go-acme/lego/v5/providers/dns/ovh"
	"github.com/go-acme/lego/v5/providers/dns/pdns"
	"github.com/go-acme/lego/v5/providers/dns/plesk"
	"github.com/go-acme/lego/v5/providers/dns/pointdns"
	"github.com/go-acme/lego/v5/providers/dns/porkbun"
	"github.com/go-acme/lego/v5/providers/dns/poweradmin"
	"github.com/go-acme/lego/v5/providers/dns/rackspace"
	"github.com/go-acme/lego/v5/providers/dns/rage4"
	"github.com/go-acme/lego/v5/providers/dns/rainyun"
	"github.com/go-acme/lego/v5/providers/dns/rcodezero"
	"github.com/go-acme/lego/v5/providers/dns/regru"
	"github.com/go-acme/lego/v5/providers/dns/rimuhosting"
	"github.com/go-acme/lego/v5/providers/dns/safedns"
	"github.com/go-acme/lego/v5/providers/dns/scaleway"
	"github.com/go-acme/lego/v5/providers/dns/scannet"
	"github.com/go-acme/lego/v5/providers/dns/selectel"
	"github.com/go-acme/lego/v5/providers/dns/selectelv2"
	"github.com/go-acme/lego/v5/providers/dns/selfhostde"
	"github.com/go-acme/lego/v5/providers/dns/servercow"
	"github.com/go-acme/lego/v5/providers/dns/shellrent"
	"github.com/go-acme/lego/v5/providers/dns/simply"
	"github.com/go-acme/lego/v5/providers/dns/sonic"
	"github.com/go-acme/lego/v5/providers/dns/spaceship"
	"github.com/go-acme/lego/v5/providers/dns/stackpath"
	"github.com/go-acme/lego/v5/providers/dns/syse"
	"github.com/go-acme/lego/v5/providers/dns/technitium"
	"github.com/go-acme/lego/v5/providers/dns/tele3"
	"github.com/go-acme/lego/v5/providers/dns/timewebcloud"
	"github.com/go-acme/lego/v5/providers/dns/todaynic"
	"github.com/go-acme/lego/v5/providers/dns/transip"
	"github.com/go-acme/lego/v5/providers/dns/ultradns"
	"github.com/go-acme/lego/v5/providers/dns/uniteddomains"
	"github.com/go-acme/lego/v5/providers/dns/variomedia"
	"github.com/go-acme/lego/v5/providers/dns/veesp"
	"github.com/go-acme/lego/v5/providers/dns/vegadns"
	"github.com/go-acme/lego/v5/providers/dns/vercel"
	"github.com/go-acme/lego/v5/providers/dns/versio"
	"github.com/go-acme/lego/v5/providers/dns/vinyldns"
	"github.com/go-acme/lego/v5/providers/dns/virtualname"
	"github.com/go-acme/lego/v5/providers/dns/vkcloud"
	"github.com/go-acme/lego/v5/providers/dns/volcengine"
	"github.com/go-acme/lego/v5/providers/dns/vscale"
	"github.com/go-acme/lego/v5/providers/dns/vultr"
	"github.com/go-acme/lego/v5/providers/dns/wannafind"
	"github.com/go-acme/lego/v5/providers/dns/webnamesca"
	"github.com/go-acme/lego/v5/providers/dns/webnamesru"
	"github.com/go-acme/lego/v5/providers/dns/websupport"
	"github.com/go-acme/lego/v5/providers/dns/wedos"
	"github.com/go-acme/lego/v5/providers/dns/westcn"
	"github.com/go-acme/lego/v5/providers/dns/xinnet"
	"github.com/go-acme/lego/v5/providers/dns/yandex"
	"github.com/go-acme/lego/v5/providers/dns/yandex360"
	"github.com/go-acme/lego/v5/providers/dns/zilore"
	"github.com/go-acme/lego/v5/providers/dns/zoneedit"
	"github.com/go-acme/lego/v5/providers/dns/zoneee"
	"github.com/go-acme/lego/v5/providers/dns/zonomi"
)

// table is all of lego's providers but those that have a package of ours, the
// one that asks a person, and those whose modules cannot be had (decision 10).
var table = map[string]func() (challenger, error){
	"abion":            of(abion.NewDNSProvider),
	"active24":         of(active24.NewDNSProvider),
	"allinkl":          of(allinkl.NewDNSProvider),
	"alwaysdata":       of(alwaysdata.NewDNSProvider),
	"anexia":           of(anexia.NewDNSProvider),
	"artfiles":         of(artfiles.NewDNSProvider),
	"arvancloud":       of(arvancloud.NewDNSProvider),
	"auroradns":        of(auroradns.NewDNSProvider),
	"autodns":          of(autodns.NewDNSProvider),
	"axelname":         of(axelname.NewDNSProvider),
	"baiducloud":       of(baiducloud.NewDNSProvider),
	"beget":            of(beget.NewDNSProvider),
	"binarylane":       of(binarylane.NewDNSProvider),
	"bindman":          of(bindman.NewDNSProvider),
	"bluecat":          of(bluecat.NewDNSProvider),
	"bluecatv2":        of(bluecatv2.NewDNSProvider),
	"bookmyname":       of(bookmyname.NewDNSProvider),
	"bunny":            of(bunny.NewDNSProvider),
	"checkdomain":      of(checkdomain.NewDNSProvider),
	"civo":             of(civo.NewDNSProvider),
	"clouddns":         of(clouddns.NewDNSProvider),
	"cloudns":          of(cloudns.NewDNSProvider),
	"cloudru":          of(cloudru.NewDNSProvider),
	"com35":            of(com35.NewDNSProvider),
	"connbyte":         of(connbyte.NewDNSProvider),
	"conoha":           of(conoha.NewDNSProvider),
	"conohav3":         of(conohav3.NewDNSProvider),
	"constellix":       of(constellix.NewDNSProvider),
	"corenetworks":     of(corenetworks.NewDNSProvider),
	"cpanel":           of(cpanel.NewDNSProvider),
	"curanet":          of(curanet.NewDNSProvider),
	"czechia":          of(czechia.NewDNSProvider),
	"dandomain":        of(dandomain.NewDNSProvider),
	"ddnss":            of(ddnss.NewDNSProvider),
	"derak":            of(derak.NewDNSProvider),
	"desec":            of(desec.NewDNSProvider),
	"designate":        of(designate.NewDNSProvider),
	"dinahosting":      of(dinahosting.NewDNSProvider),
	"directadmin":      of(directadmin.NewDNSProvider),
	"dns51":            of(dns51.NewDNSProvider),
	"dnscale":          of(dnscale.NewDNSProvider),
	"dnsexit":          of(dnsexit.NewDNSProvider),
	"dnshomede":        of(dnshomede.NewDNSProvider),
	"dnsla":            of(dnsla.NewDNSProvider),
	"dnsmadeeasy":      of(dnsmadeeasy.NewDNSProvider),
	"dnsservices":      of(dnsservices.NewDNSProvider),
	"dode":             of(dode.NewDNSProvider),
	"domainnameshop":   of(domeneshop.NewDNSProvider),
	"domeneshop":       of(domeneshop.NewDNSProvider),
	"dreamhost":        of(dreamhost.NewDNSProvider),
	"duckdns":          of(duckdns.NewDNSProvider),
	"dyn":              of(dyn.NewDNSProvider),
	"dynadot":          of(dynadot.NewDNSProvider),
	"dyndnsfree":       of(dyndnsfree.NewDNSProvider),
	"dynu":             of(dynu.NewDNSProvider),
	"easydns":          of(easydns.NewDNSProvider),
	"edgecenter":       of(edgecenter.NewDNSProvider),
	"efficientip":      of(efficientip.NewDNSProvider),
	"epik":             of(epik.NewDNSProvider),
	"eurodns":          of(eurodns.NewDNSProvider),
	"euserv":           of(euserv.NewDNSProvider),
	"excedo":           of(excedo.NewDNSProvider),
	"exoscale":         of(exoscale.NewDNSProvider),
	"f5xc":             of(f5xc.NewDNSProvider),
	"fornex":           of(fornex.NewDNSProvider),
	"freemyip":         of(freemyip.NewDNSProvider),
	"gandi":            of(gandi.NewDNSProvider),
	"gandiv5":          of(gandiv5.NewDNSProvider),
	"gcore":            of(gcore.NewDNSProvider),
	"gehirn":           of(gehirn.NewDNSProvider),
	"gigahostno":       of(gigahostno.NewDNSProvider),
	"glesys":           of(glesys.NewDNSProvider),
	"gname":            of(gname.NewDNSProvider),
	"godaddy":          of(godaddy.NewDNSProvider),
	"gravity":          of(gravity.NewDNSProvider),
	"hetzner":          of(hetzner.NewDNSProvider),
	"hostingde":        of(hostingde.NewDNSProvider),
	"hostinger":        of(hostinger.NewDNSProvider),
	"hostingnl":        of(hostingnl.NewDNSProvider),
	"hosttech":         of(hosttech.NewDNSProvider),
	"hostup":           of(hostup.NewDNSProvider),
	"httpnet":          of(httpnet.NewDNSProvider),
	"hurricane":        of(hurricane.NewDNSProvider),
	"hyperone":         of(hyperone.NewDNSProvider),
	"ibmcloud":         of(ibmcloud.NewDNSProvider),
	"iijdpf":           of(iijdpf.NewDNSProvider),
	"infoblox":         of(infoblox.NewDNSProvider),
	"infomaniak":       of(infomaniak.NewDNSProvider),
	"internetbs":       of(internetbs.NewDNSProvider),
	"inwx":             of(inwx.NewDNSProvider),
	"ionos":            of(ionos.NewDNSProvider),
	"ionoscloud":       of(ionoscloud.NewDNSProvider),
	"ipv64":            of(ipv64.NewDNSProvider),
	"ispconfig":        of(ispconfig.NewDNSProvider),
	"ispconfigddns":    of(ispconfigddns.NewDNSProvider),
	"jdcloud":          of(jdcloud.NewDNSProvider),
	"joker":            of(joker.NewDNSProvider),
	"katapult":         of(katapult.NewDNSProvider),
	"keyhelp":          of(keyhelp.NewDNSProvider),
	"leaseweb":         of(leaseweb.NewDNSProvider),
	"liara":            of(liara.NewDNSProvider),
	"lightsail":        of(lightsail.NewDNSProvider),
	"limacity":         of(limacity.NewDNSProvider),
	"linode":           of(linode.NewDNSProvider),
	"linodev4":         of(linode.NewDNSProvider),
	"liquidweb":        of(liquidweb.NewDNSProvider),
	"loopia":           of(loopia.NewDNSProvider),
	"luadns":           of(luadns.NewDNSProvider),
	"mailinabox":       of(mailinabox.NewDNSProvider),
	"manageengine":     of(manageengine.NewDNSProvider),
	"metaname":         of(metaname.NewDNSProvider),
	"metaregistrar":    of(metaregistrar.NewDNSProvider),
	"mijnhost":         of(mijnhost.NewDNSProvider),
	"mittwald":         of(mittwald.NewDNSProvider),
	"myaddr":           of(myaddr.NewDNSProvider),
	"mydnsjp":          of(mydnsjp.NewDNSProvider),
	"mythicbeasts":     of(mythicbeasts.NewDNSProvider),
	"namecheap":        of(namecheap.NewDNSProvider),
	"namedotcom":       of(namedotcom.NewDNSProvider),
	"namesilo":         of(namesilo.NewDNSProvider),
	"namesurfer":       of(namesurfer.NewDNSProvider),
	"nearlyfreespeech": of(nearlyfreespeech.NewDNSProvider),
	"nederhost":        of(nederhost.NewDNSProvider),
	"neodigit":         of(neodigit.NewDNSProvider),
	"netcup":           of(netcup.NewDNSProvider),
	"netlify":          of(netlify.NewDNSProvider),
	"netnod":           of(netnod.NewDNSProvider),
	"nexdns":           of(nexdns.NewDNSProvider),
	"ngenix":           of(ngenix.NewDNSProvider),
	"nicmanager":       of(nicmanager.NewDNSProvider),
	"nicru":            of(nicru.NewDNSProvider),
	"nifcloud":         of(nifcloud.NewDNSProvider),
	"njalla":           of(njalla.NewDNSProvider),
	"nodion":           of(nodion.NewDNSProvider),
	"ns1":              of(ns1.NewDNSProvider),
	"octenium":         of(octenium.NewDNSProvider),
	"omglol":           of(omglol.NewDNSProvider),
	"onecloudru":       of(onecloudru.NewDNSProvider),
	"onlinenet":        of(onlinenet.NewDNSProvider),
	"openprovider":     of(openprovider.NewDNSProvider),
	"opusdns":          of(opusdns.NewDNSProvider),
	"otc":              of(otc.NewDNSProvider),
	"ovh":              of(ovh.NewDNSProvider),
	"pdns":             of(pdns.NewDNSProvider),
	"plesk":            of(plesk.NewDNSProvider),
	"pointdns":         of(pointdns.NewDNSProvider),
	"porkbun":          of(porkbun.NewDNSProvider),
	"poweradmin":       of(poweradmin.NewDNSProvider),
	"rackspace":        of(rackspace.NewDNSProvider),
	"rage4":            of(rage4.NewDNSProvider),
	"rainyun":          of(rainyun.NewDNSProvider),
	"rcodezero":        of(rcodezero.NewDNSProvider),
	"regru":            of(regru.NewDNSProvider),
	"rimuhosting":      of(rimuhosting.NewDNSProvider),
	"safedns":          of(safedns.NewDNSProvider),
	"scaleway":         of(scaleway.NewDNSProvider),
	"scannet":          of(scannet.NewDNSProvider),
	"selectel":         of(selectel.NewDNSProvider),
	"selectelv2":       of(selectelv2.NewDNSProvider),
	"selfhostde":       of(selfhostde.NewDNSProvider),
	"servercow":        of(servercow.NewDNSProvider),
	"shellrent":        of(shellrent.NewDNSProvider),
	"simply":           of(simply.NewDNSProvider),
	"sonic":            of(sonic.NewDNSProvider),
	"spaceship":        of(spaceship.NewDNSProvider),
	"stackpath":        of(stackpath.NewDNSProvider),
	"syse":             of(syse.NewDNSProvider),
	"technitium":       of(technitium.NewDNSProvider),
	"tele3":            of(tele3.NewDNSProvider),
	"timewebcloud":     of(timewebcloud.NewDNSProvider),
	"todaynic":         of(todaynic.NewDNSProvider),
	"transip":          of(transip.NewDNSProvider),
	"ultradns":         of(ultradns.NewDNSProvider),
	"uniteddomains":    of(uniteddomains.NewDNSProvider),
	"variomedia":       of(variomedia.NewDNSProvider),
	"veesp":            of(veesp.NewDNSProvider),
	"vegadns":          of(vegadns.NewDNSProvider),
	"vercel":           of(vercel.NewDNSProvider),
	"versio":           of(versio.NewDNSProvider),
	"vinyldns":         of(vinyldns.NewDNSProvider),
	"virtualname":      of(virtualname.NewDNSProvider),
	"vkcloud":          of(vkcloud.NewDNSProvider),
	"volcengine":       of(volcengine.NewDNSProvider),
	"vscale":           of(vscale.NewDNSProvider),
	"vultr":            of(vultr.NewDNSProvider),
	"wannafind":        of(wannafind.NewDNSProvider),
	"webnames":         of(webnamesru.NewDNSProvider),
	"webnamesca":       of(webnamesca.NewDNSProvider),
	"webnamesru":       of(webnamesru.NewDNSProvider),
	"websupport":       of(websupport.NewDNSProvider),
	"wedos":            of(wedos.NewDNSProvider),
	"westcn":           of(westcn.NewDNSProvider),
	"xinnet":           of(xinnet.NewDNSProvider),
	"yandex":           of(yandex.NewDNSProvider),
	"yandex360":        of(yandex360.NewDNSProvider),
	"zilore":           of(zilore.NewDNSProvider),
	"zoneedit":         of(zoneedit.NewDNSProvider),
	"zoneee":           of(zoneee.NewDNSProvider),
	"zonomi":           of(zonomi.NewDNSProvider),
}
