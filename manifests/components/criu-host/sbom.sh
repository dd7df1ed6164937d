#!/bin/sh
# sbom.sh VERSION SHA256 IMAGE: the bill of materials of the image, SPDX 2.3: criu by the digest of its source, what is linked into it
# as build.sh found it (/build/linked), and busybox. To the standard output.
set -eu
version=$1 sha256=$2 image=$3
. /etc/os-release
created=$(date -u -d "@${SOURCE_DATE_EPOCH:-$(date +%s)}" +%Y-%m-%dT%H:%M:%SZ)
digest=$(sha256sum "$image/criu" | cut -c 1-64)

# A file as a string of JSON (RFC 8259, section 7).
text() { perl -0777 -pe 's/([\x00-\x1f"\\])/sprintf "\\u%04x", ord $1/ge' "$1"; }

package() {
  query() { dpkg-query --show --showformat "$1" "$2"; }
  cat <<JSON
    {"SPDXID": "SPDXRef-debian-$1", "name": "$1", "versionInfo": "$(query '${Version}' "$1")",
      "supplier": "Organization: Debian", "downloadLocation": "NOASSERTION", "filesAnalyzed": false,
      "sourceInfo": "Debian source package $(query '${source:Package} ${source:Version}' "$1")",
      "licenseConcluded": "NOASSERTION", "licenseDeclared": "LicenseRef-debian-$1", "copyrightText": "NOASSERTION",
      "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl",
        "referenceLocator": "pkg:deb/debian/$1@$(query '${Version}' "$1" | sed 's/:/%3A/g; s/+/%2B/g')?arch=$(dpkg --print-architecture)&distro=debian-$VERSION_ID"}]}
JSON
}

cat <<JSON
{
  "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": "exhibit-criu-$version",
  "documentNamespace": "https://spdx.org/spdxdocs/exhibit-criu-$version-$digest",
  "creationInfo": {"created": "$created", "creators": ["Tool: exhibit-criu-sbom.sh"]},
  "packages": [
    {"SPDXID": "SPDXRef-criu", "name": "criu", "versionInfo": "$version", "primaryPackagePurpose": "APPLICATION",
      "downloadLocation": "https://deb.debian.org/debian/pool/main/c/criu/criu_$version.orig.tar.xz", "filesAnalyzed": false,
      "sourceInfo": "/source/criu_$version.orig.tar.xz of this image; SHA-256 of the program /criu: $digest",
      "checksums": [{"algorithm": "SHA256", "checksumValue": "$sha256"}],
      "licenseConcluded": "NOASSERTION", "licenseDeclared": "GPL-2.0-only", "copyrightText": "NOASSERTION"}
JSON
for name in $(cat /build/linked) busybox-static; do echo '    ,'; package "$name"; done
cat <<JSON
  ],
  "relationships": [
    {"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-criu"},
JSON
while read -r name; do
  echo "    {\"spdxElementId\": \"SPDXRef-criu\", \"relationshipType\": \"STATIC_LINK\", \"relatedSpdxElement\": \"SPDXRef-debian-$name\"},"
done < /build/linked
cat <<JSON
    {"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-debian-busybox-static"}
  ],
  "hasExtractedLicensingInfos": [
JSON
comma=
for name in $(cat /build/linked) busybox-static; do
  printf '%s    {"licenseId": "LicenseRef-debian-%s", "extractedText": "%s"}\n' "$comma" "$name" "$(text "$image/licences/$name/copyright")"
  comma=,
done
cat <<JSON
  ]
}
JSON
