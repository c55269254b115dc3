### What the window says, in German: du, and plain words.
###
### Each message is a function of `ui::words`, made by app/build.rs: it has the same arguments in all languages, or nothing is
### built. What chooses between forms is a whole number, and the forms are those of CLDR's plural rules.


## Parts that stand everywhere

done = Fertig
back = Zurück
cancel = Abbrechen
copied = Kopiert
remove = Entfernen
save = Sichern
settings = Einstellungen
close-settings = Einstellungen schließen
do-not-disturb = Nicht stören
name = Name
your-name = Dein Name
key-enter = Enter
add-to-contacts = Zu den Kontakten
verified = geprüft
careful = Vorsicht
unread =
    { $count ->
       *[other] { $count } ungelesen
    }
call-them = Anrufen
missed-call = Verpasster Anruf
percent = { $percent } %

## How a call was

how-was-it = Wie war es? Was du sagst, bleibt auf diesem Gerät.
rating-bad = Schlecht
rating-poor = Mäßig
rating-fair = Ganz gut
rating-good = Gut
rating-excellent = Sehr gut
rating-of = { $word }: { $rating } von { $most }
copy-report = Bericht kopieren
report-is = Was gemessen wurde, für alle, die dir helfen: ohne Namen, Adressen und Schlüssel.

## The call

call-again = Noch einmal anrufen
close = Schließen
you-muted = Du (stumm)
you-meter = Du
microphone-level = Pegel des Mikrofons
them-meter = Gegenüber
speaker-level = Pegel des Lautsprechers
hold-space-to-talk = Halte zum Sprechen die Leertaste.
read-words = Lest euch diese Wörter vor. Sind sie auf beiden Seiten gleich, ist niemand dazwischen.
old-words = Das ahoy der anderen Seite ist älter und macht diese Wörter auf schwächere Art: Aktualisiert es und vergleicht dann.
volume = Lautstärke
volume-of = Lautstärke von { $name }
words-on-both-sides = Die gleichen Wörter auf beiden Seiten: { $words }
phase-calling = Anruf…
phase-ringing = Es klingelt…
phase-incoming = ruft dich an
phase-connecting = Verbinden…
talking-on-hold = { $clock } · gehalten: { $name } hört nichts
talking-held-there = { $clock } · { $name } hält die Verbindung
talking-by-path = { $clock } · { $path } · Ende-zu-Ende-verschlüsselt
talking = { $clock } · Ende-zu-Ende-verschlüsselt
path-direct = direkt
path-relay = über Supernode
path-lan = im Netz hier
path-tcp = über TCP
reconnecting-for = Die Verbindung ist weg. Neuer Versuch, noch { $clock }
reconnecting = Die Verbindung ist weg. Neuer Versuch…
mute = Stumm
unmute = Laut
answer = Annehmen
answer-seen = Mit Kamera annehmen
decline = Ablehnen
decline-saying = Mit Nachricht ablehnen
reply-title = Ablehnen und { $name } schreiben
reply-back = Ich rufe dich bald zurück.
reply-later = Ich kann gerade nicht sprechen. Geht es später?
reply-write = Ich kann gerade nicht sprechen. Schreib mir, worum es geht.
reply-own = Eigene Worte
reply-send = Ablehnen und senden
camera = Kamera
stop-camera = Kamera aus
share = Teilen
sharing = Geteilt
record = Aufnehmen
stop-recording = Aufnahme aus
hold = Halten
resume = Weiter
hang-up = Auflegen
ignore = Ignorieren
switch-calls = Wechseln
other-waits = { $them } ruft auch an. Nimmst du an, wird { $name } gehalten.
other-ignored = { $them } ruft noch an.
other-on-hold = { $them } wird gehalten.
other-reconnecting = { $them } wird gehalten, und die Verbindung ist weg.
choose-device = Anderes Gerät wählen
choose-to-show = Wählen, was zu sehen ist
recording-for = Aufnahme { $clock }
recorded-to = Aufgenommen in { $path }
records-there = { $name } nimmt auf
stage-held = Du hältst { $name }
stage-held-there = { $name } hält die Verbindung
stage-still = Von { $name } kommt kein neues Bild: Vielleicht trägt die Verbindung zu wenig dafür
picture-of = Bild von { $name }
shows-no-picture = { $name } zeigt kein Bild
cannot-draw = Dieser Grafiktreiber kann keine Bilder zeichnen.
own-picture = Dein eigenes Bild, wie im Spiegel
what-you-show = Was du zeigst
title-unread = ({ $unread }) ahoy
title-calling = Anruf bei { $name } - ahoy
title-incoming = { $name } ruft dich an - ahoy
title-connecting = Verbinden mit { $name } - ahoy
title-muted = { $name } (du bist stumm) - ahoy
title-talking = { $name } - ahoy
title-ended = Anruf mit { $name } beendet - ahoy
calls-you = { $name } ruft dich an
call-has-ended = Der Anruf ist vorbei

## How a call ended

ended-missed-busy = { $name } hat angerufen, während du gesprochen hast.
ended-missed = Du hast einen Anruf von { $name } verpasst.
ended-declined-own-device = Auf einem anderen deiner Geräte abgelehnt.
ended-you-hung-up = Du hast aufgelegt.
ended-they-hung-up = { $name } hat aufgelegt.
ended-you-declined = Du hast den Anruf von { $name } abgelehnt.
ended-they-declined = { $name } hat abgelehnt.
ended-they-declined-elsewhere = { $name } hat auf einem anderen Gerät abgelehnt.
ended-busy = { $name } spricht gerade. Versuch es später noch einmal.
ended-no-answer = { $name } hat nicht geantwortet.
ended-you-cancelled = Du hast den Anruf abgebrochen.
ended-they-gave-up = { $name } hat angerufen und aufgegeben.
ended-before-sound = { $name } hat angenommen und aufgelegt, bevor ein Ton kam.
ended-answered-own-device = Auf einem anderen deiner Geräte angenommen.
ended-unknown = Der Link von { $name } nennt keine Supernode, und in diesem Netz war { $name } nicht zu finden. Seid ihr beide im selben Netz, muss ahoy dort laufen und auf beiden Seiten die Suche im Netz eingeschaltet sein; von anderswo bitte um einen Link, der eine Supernode nennt.
ended-offline = { $name } ist bei den Supernodes im Link nicht online. Frag nach, ob ahoy läuft, oder bitte um einen neuen Link.
ended-home-busy = Die Supernode von { $name } ist überlastet. Versuch es in einer Minute noch einmal.
ended-no-route = Keine Supernode von { $name } antwortet. Prüfe deine eigene Verbindung, bitte dann um einen neuen Link.
ended-untrusted = Eine Supernode hat über { $name } etwas Falsches gesagt, darum wurde nichts gesendet. Bitte { $name } persönlich um einen neuen Link.
ended-private = { $name } ist in einem privaten Netz, das dieses Gerät nicht oder nicht mehr einlässt. Bitte um eine Einladung, wer das Netz betreibt.
ended-flooded = Fremde überfluten die Supernode von { $name }, darum verlangt sie mehr Arbeit, als für einen Anruf getan wird. Versuch es später noch einmal, oder lass dich in die Kontakte aufnehmen.
ended-lost = Die Verbindung zu { $name } ist abgerissen. Ruf noch einmal an.
ended-impostor = Wer angenommen hat, konnte nicht beweisen, { $name } zu sein, darum wurde nichts gesagt. Bitte { $name } persönlich um einen neuen Link.
ended-media = Dein Ton ließ sich nicht einrichten: Lies die Meldung oben und ruf noch einmal an.
ended-protocol = Das Programm von { $name } hat etwas gesagt, das keinen Sinn ergibt. Aktualisiert beide Seiten.
ended-time-limit = Der Anruf mit { $name } kam in der gesetzten Zeit nicht zustande.
ended-merged = Du und { $name }, ihr habt euch zugleich angerufen.

## Messages

details = Angaben
write-to = An { $name } schreiben
file = Datei
send-a-file = Datei senden
message = Nachricht
send = Senden
nothing-written = Noch nichts geschrieben. Was du schreibst, wird für die Geräte von { $name } versiegelt und wartet bis zu 14 Tage, wenn sie aus sind.
time-and-state = { $time } · { $state }
you-called-nobody-answered = Du hast angerufen, und niemand hat geantwortet
you-said = Du: { $line }
you-called = Du hast angerufen
delivery-queued = unterwegs
delivery-unknown = nicht gesendet: Nichts verrät, wo { $name } zu finden ist; die Nachricht bleibt hier und geht hinaus, wenn ahoy läuft
delivery-no-route = nicht gesendet: Keine Supernode von { $name } antwortet; die Nachricht bleibt hier und geht hinaus, wenn ahoy läuft
delivery-no-box = nicht gesendet: Keine Supernode hat ein Postfach für { $name }; die Nachricht bleibt hier und geht hinaus, wenn ahoy läuft
delivery-full = nicht gesendet: Die Postfächer von { $name } nehmen gerade nichts mehr; die Nachricht bleibt hier und geht hinaus, wenn ahoy läuft
delivery-untrusted = nicht gesendet: Was die Supernodes über { $name } sagen, ist nicht echt; die Nachricht bleibt hier und geht hinaus, wenn ahoy läuft
delivery-waiting = wartet bei { $homes ->
        [one] 1 Supernode
       *[other] { $homes } Supernodes
    }, bis { $name } online kommt
delivery-delivered = zugestellt
delivery-expired = nicht zugestellt: { $name } war 14 Tage lang nicht online
attach-many = So viele Dateien gehen auf einmal, und nicht mehr.
attach-no-dialog = Dein Desktop hat keinen Dialog für Dateien: Zieh die Datei auf dieses Fenster oder schreib, wo sie liegt.
do-not-send = { $name } nicht senden
path-to-file = /Pfad/zur/Datei
where-file-is = Wo die Datei liegt
choose = Wählen…
send-files = Dateien senden
no-partner = Um eine Datei zu senden, öffne zuerst die Seite eines Kontakts.
drop-to-send = Loslassen, um an { $name } zu senden

## Files

open-folder = Ordner öffnen
accept = Annehmen
refuse = Ablehnen
pause = Anhalten
go-on = Fortsetzen
accept-all-the-same = Trotzdem annehmen
take-back = Zurücknehmen
file-seconds = { $count } s
file-minutes = { $count } min
file-hours = { $count } Std.
file-pace = { $size }/s · noch { $left }
file-own = { $size } · von dir gesendet
file-theirs = { $size } · für dich
file-percent = { $name }: { $percent } Prozent
file-told-pace = { $told } · { $pace }
file-button = { $label }: { $name }
file-offers = { $person } bietet { $size } an; geholt wird erst, wenn du annimmst
file-fetches = { $person } holt sie: { $done } von { $size }
file-offered = angeboten; sie geht hinaus, wenn { $person } annimmt und ihr beide online seid
file-waits = { $done } von { $size }; es geht weiter, wenn { $person } online ist
file-false = { $done } von { $size }; was { $person } sendet, ist nicht das Angebotene und wird nicht genommen
file-from =
    { $done } von { $size }, von { $sources ->
        [one] 1 Gerät
       *[other] { $sources } Geräten
    }
file-paused-why = { $done } von { $size }; { $why }
file-paused = angehalten bei { $done } von { $size }
file-complete = vollständig, jedes Byte geprüft
file-they-have-it = { $person } hat sie
file-not-wanted = nicht gewollt
file-failed = sie kann nicht mehr gesendet werden
bytes = { $count } Bytes
kilobytes = { $count } kB
megabytes = { $count } MB
gigabytes = { $count } GB
file-taken-back = du hast sie zurückgenommen
file-they-refused = { $person } will sie nicht
file-too-large = sie ist größer, als du annimmst
file-changed = die Datei wurde seit dem Angebot geändert oder entfernt
save-as = Sichern als…
not-kept = Die Datei ist dort nicht gesichert: { $error }
no-save-dialog = dein Desktop hat dafür keinen Dialog. Sie liegt in ihrem Ordner.

## Back from elsewhere

welcome-back = Willkommen zurück
a-backup-file = Eine Sicherungsdatei
backup-brings = Bringt auch Kontakte, Nachrichten und Einstellungen mit. Zieh die Datei auf dieses Fenster oder schreib, wo sie liegt.
path-to-backup = /Pfad/zur/Sicherung
backup-file = Sicherungsdatei
its-passphrase = Ihre Passphrase
words-24 = 24 Wörter
words-bring = Sie bringen zurück, wer du bist, oder öffnen eine Sicherung, die für sie gemacht wurde. Allein zeigen sie Kontakten, dass du neu angefangen hast.
words-hint = die Wörter, mit Leerzeichen dazwischen
the-24-words = Die 24 Wörter
come-back = Zurückkommen
opening = Wird geöffnet…
i-am-new = Ich bin neu hier
another-device-of-yours = Ein anderes Gerät von dir
looking-for-device = Dein anderes Gerät wird gesucht…
same-digits-there = Zeigt dein anderes Gerät dieselben Ziffern?
say-so-there = Bestätige es dort, dann wird dieses Gerät eines von deinen. Sind es andere, sag auch das dort: Dann hat jemand anderes den Link.
device-brings = Drück dort in den Einstellungen unter Geräte auf „Gerät hinzufügen“ und bring den Link hierher. Du musst dir nichts merken, und beide machen gemeinsam weiter.
pair-link = ahoy-pair:…
link-of-other-device = Link deines anderen Geräts
join = Verbinden
no-pair-link = Das ist kein Link eines anderen Geräts: Er beginnt mit ahoy-pair:
pair-no-route = Hinter diesem Link wartet niemand: Er ist verbraucht oder abgelaufen, das andere Gerät hat aufgehört, oder seine Supernode ist von hier nicht erreichbar. Lass dir dort einen neuen geben.
pair-not-let-in = Das andere Gerät hat dieses nicht eingelassen. Lass dir dort einen neuen Link geben und vergleiche die Ziffern.
pair-too-late = Niemand hat auf dem anderen Gerät rechtzeitig Ja gesagt.
cannot-be-read = { $file } lässt sich nicht lesen: { $error }

## Sound

no-sound-built = Dieses ahoy wurde ohne Tongeräte gebaut.
test-failed = Die Probe ist gescheitert: { $error }.
heard-nothing = { $microphone } hat fast nichts gehört: Ist es stumm, oder war ein anderes gemeint?
heard-you = { $microphone } hat dich gehört, an der lautesten Stelle { $decibels } dB unter Vollaussteuerung.
played-sound = { $speaker } hat einen Ton gespielt.
devices = Geräte
level = Pegel
level-of-microphone = Pegel am Mikrofon
play-a-sound = Ton abspielen
play-by-speaker = Ton über den Lautsprecher abspielen
ring-test = Klingeln
ring-by-device = Über das Klingelgerät klingeln
record-and-play = 3 Sekunden aufnehmen und abspielen
wait = Warte…
recording-speak = Aufnahme läuft: Sprich jetzt
playing = Wird abgespielt…
tests-wait = Proben warten, bis der Anruf vorbei ist.
microphone-listens = Das Mikrofon hört zu, solange diese Seite offen ist; gesendet wird nichts.
microphone = Mikrofon
speaker = Lautsprecher
calls-ring-by = Anrufe klingeln über
system-default = Standard des Systems
system-default-is = Standard des Systems ({ $device })
device-missing = Fehlt: { $device }
your-voice = Deine Stimme
echo-cancellation = Echounterdrückung
echo-cancellation-why = Andere hören sich nicht selbst aus deinem Lautsprecher.
noise-suppression = Rauschunterdrückung
noise-suppression-why = Nimmt Lüfter, Verkehr und anderes stetiges Geräusch heraus.
gain-control = Automatische Lautstärke
gain-control-why = Macht eine leise Stimme lauter und eine laute leiser.
high-pass = Hochpassfilter
high-pass-why = Nimmt Brummen und Rumpeln unterhalb der Stimme heraus.
click-suppression = Tastenklick-Unterdrückung
click-suppression-why = Dämpft Tastenanschläge, während niemand spricht.
what-is-sent = Was gesendet wird
voice-gate = Sprachschwelle
voice-gate-why = Sendet Stille, während niemand spricht.
push-to-talk = Sprechtaste
push-to-talk-why = Du bist stumm, solange du die Leertaste nicht hältst.
music-mode = Musikmodus
music-mode-why = Sendet den Ton, wie er ist, in Stereo; was darüber steht, tut nichts.
what-you-hear = Was du hörst
reconnect-tone = Ton beim Wiederverbinden
reconnect-tone-why = Ab und zu zwei leise Klopfer, während die Verbindung weg ist.

## Devices

speaks-no-more = Es spricht nicht mehr für dich. Supernodes erfahren es jetzt, Kontakte beim nächsten Anruf oder der nächsten Nachricht.
still-a-device = Es ist noch eines deiner Geräte: { $why }
link-expired = Der Link ist abgelaufen, und niemand wurde eingelassen.
did-not-keep-rules = Wer kam, hielt sich nicht an die Regeln. Niemand wurde eingelassen, und der Link ist verbraucht.
a-device = ein Gerät ({ $key }…)
my-devices = Meine Geräte
devices-are = Jedes spricht für dich: Anrufe klingeln auf allen, und Kontakte und was du schreibst sind auf allen.
one-more-device = Noch ein Gerät
device-lost = Ein Gerät ist verloren oder gestohlen
device-lost-what = Nimm es oben heraus, von irgendeinem Gerät, das du noch hast: Anrufe und Nachrichten gehen dann an ihm vorbei, und niemand hält es für dich. Was schon darauf ist, bleibt darauf, hinter seiner Passphrase, wenn es eine hat. War es dein letztes, fängst du mit deinen 24 Wörtern auf einem anderen neu an.
backup = Eine Sicherung
backup-is = Eine Datei mit allem, was du hier bist und hast: Schlüssel, Kontakte, Nachrichten, Einstellungen. Sie enthält die Schlüssel dieses Geräts: Komm mit ihr zurück, wenn es dieses Gerät nicht mehr gibt, nicht daneben.
make-backup-dots = Sicherung anlegen …
make-backup = Sicherung jetzt anlegen
backup-making = Wird angelegt …
backup-by-words = Die 24 Wörter öffnen sie
backup-by-words-why = Statt einer Passphrase: Wer die Wörter hat, kann sie öffnen.
backup-passphrase = Passphrase dafür
backup-passphrase-again = Noch einmal dieselbe Passphrase
backup-differs = Das ist nicht dieselbe.
backup-choose = Wählen, wo die Sicherung liegen soll
backup-no-dialog = Dein Desktop hat keinen Dialog dafür: Schreib, wo die Datei liegen soll.
backup-made = Die Sicherung liegt in { $file } und hat { $size }. Heb sie woanders auf als hier.
backup-is-there = { $file } gibt es schon: Wähle einen anderen Namen.
backup-short =
    { $least ->
        *[other] Die Passphrase ist zu kurz: mindestens { $least } Zeichen, besser fünf Wörter, die niemand kennt.
    }
backup-no-words = Dieses Gerät hat die 24 Wörter nicht: Nimm eine Passphrase.
backup-not-made = Die Sicherung wurde nicht angelegt: { $error }
this-device-since = dieses Gerät · seit { $day }
another-device-since = ein anderes Gerät · seit { $day }
take-out = Herausnehmen
take-out-whom = { $name } herausnehmen
take-out-means = Es spricht dann nicht mehr für dich und kommt nicht von selbst wieder herein. Was darauf ist, bleibt darauf.
take-it-out = Ja, herausnehmen
keep-it = Behalten
pair-how = Dieses Gerät zeigt einen Link, das andere nimmt ihn, und beide zeigen sechs Ziffern zum Vergleichen.
add-a-device = Gerät hinzufügen
looking-for-place = Ein Treffpunkt wird gesucht…
pair-waiting = Starte auf dem anderen Gerät ahoy, drück auf „Ich habe ahoy schon“ und füg diesen Link dort ein. Er gilt zehn Minuten und für ein Gerät: Zeig ihn sonst niemandem.
pair-qr = Der Link für dein anderes Gerät als QR-Code
copy-the-link = Link kopieren
pair-asked = { $who } will eines deiner Geräte sein. Zeigt es
pair-asked-means = Wenn ja, bekommt es deine Kontakte und spricht von jetzt an für dich. Wenn nicht, hat jemand anderes den Link.
the-same-digits = Dieselben Ziffern
other-digits = Andere Ziffern
pair-giving = { $who } bekommt deine Kontakte…
pair-done = { $who } ist jetzt eines deiner Geräte.
add-another-device = Noch ein Gerät hinzufügen
try-again = Noch einmal

## The echo test

echo-test = Echotest
echo-test-is = Ein Anruf bei dir selbst: Er sagt einen Satz und spielt dann drei Sekunden später zurück, was du sagst. Internet braucht er nicht.
call-echo-test = Echotest anrufen

## How good a call is

quality-gap = Im Moment führt kein Weg zur anderen Seite.
quality-lost-here = { $percent } % der Pakete von { $name } gehen auf dem Weg zu dir verloren.
quality-uneven = Der Ton von { $name } kommt zu spät oder ungleichmäßig: Das Netz dort oder deines ist ausgelastet.
quality-lost-there = { $percent } % deiner Pakete gehen auf dem Weg zu { $name } verloren.
quality-restored = { $percent } % der Pakete von { $name } gehen auf dem Weg zu dir verloren und werden ersetzt.
quality-thin = Dein Weg zu { $name } trägt nur { $kbps } kbit/s, darum hat deine Stimme wenige Bits.
quality-long = Der Weg zwischen euch ist lang: { $millis } ms hin und zurück.
quality-buffer = Pakete von { $name } kommen ungleichmäßig, darum wartet der Ton hier { $millis } ms.
quality-good = Nichts bremst diesen Anruf.

## Home

contacts = Kontakte
name-or-link = Name oder Link zum Anrufen
call-somebody = Jemanden anrufen
name-or-link-hint = Name oder ahoy:-Link
scan-code = QR-Code einlesen
scan-stop = Nicht mehr einlesen
scan-is = Halte den Code vor die Kamera. Nichts wird gesendet, und die Kamera ist aus, sobald ein Link gelesen ist.
scan-no-link = In diesem Code steht kein ahoy-Link.
your-link = Dein Link: Wer ihn hat, kann dich um einen Anruf bitten
copy-link = Link kopieren
hide-qr = QR-Code verbergen
show-qr = QR-Code zeigen
your-link-qr = Dein Link als QR-Code
call-whom = { $name } anrufen
write = Schreiben
requests = Leute, die du nicht kennst, wollen dich erreichen
look = Ansehen
look-at-request = Anfrage von { $name } ansehen
no-supernode = Noch keine Supernode: Füg zum Anrufen den Link einer Freundin oder eines Freundes ein
reachable =
    { $all ->
        [one] Erreichbar über 1 Supernode
       *[other] Erreichbar über { $up } von { $all } Supernodes
    }
looking-for-supernodes = Deine Supernodes werden gesucht…
not-a-contact-name = So heißt niemand in deinen Kontakten. Um jemand Neues zu erreichen, füg den ahoy:-Link ein.
is-supernode-link = Das ist der Link einer Supernode. Um dich dort anzumelden, füg ihn in den Einstellungen unter Netz hinzu.
link-unusable = Dieser Link ist nicht zu gebrauchen: { $error }
today = Heute
yesterday = Gestern
monday = Montag
tuesday = Dienstag
wednesday = Mittwoch
thursday = Donnerstag
friday = Freitag
saturday = Samstag
sunday = Sonntag
january = Januar
february = Februar
march = März
april = April
may = Mai
june = Juni
july = Juli
august = August
september = September
october = Oktober
november = November
december = Dezember
date = { $day }. { $month } { $year }
moment = { $date }, { $time }
day-and-month = { $day }. { $month }

## Calls of the last days

recent-missed = Verpasst
recent-outgoing = Ausgehend
recent-declined-there = Dort abgelehnt
recent-busy = Besetzt
recent-no-answer = Keine Antwort
recent-cancelled = Abgebrochen
recent-not-reached = Nicht erreicht
recent-failed = Gescheitert
recent-declined-elsewhere = Auf einem anderen Gerät abgelehnt
recent-answered-elsewhere = Auf einem anderen Gerät angenommen
recent-declined = Abgelehnt
recent-incoming = Eingehend
recent-rated = { $rating } von 5
recent-calls = Letzte Anrufe
show-fewer = Weniger zeigen
show-all-calls = Alle Anrufe zeigen
call-back = { $name } zurückrufen
look-at = { $name } ansehen

## Keys

keys-everywhere = Überall
keys-ringing = Während es klingelt
keys-call = Im Anruf
keys-are-chosen = Um für etwas im Anruf einen anderen Buchstaben oder eine andere Ziffer zu wählen, drück den Knopf mit seiner Taste und dann die neue.
keys-usual = Die üblichen Tasten
key-press = Taste drücken
key-press-for = Drück die neue Taste für: { $what }
key-change = { $what }: { $key }. Andere Taste wählen
key-unfit = Nur Buchstaben von A bis Z und Ziffern lassen sich wählen.
key-taken = { $key } hat schon eine Aufgabe: { $what }
key-tab = Tab
key-tab-does = Zum nächsten Element; mit Umschalt zum vorigen
key-space = Leertaste
key-space-does = Drückt, was den Rahmen um sich hat
key-escape = Esc
key-escape-does = Schließt, was offen ist
key-settings = Strg + ,
key-search = Strg + K
key-search-does = Suchen oder Link einfügen
key-contacts = Strg + 1 … 9
key-contacts-does = Schreibt dem ersten, zweiten … Kontakt
key-file = Strg + O
key-file-does = Sendet eine Datei an die Person, mit der du schreibst oder sprichst
key-list = Strg + /
key-list-does = Diese Liste; ebenso ?
key-whole-screen = F11
key-whole-screen-does = Der ganze Bildschirm
key-quit = Strg + Q
key-quit-does = Beendet ahoy
key-answers = Nimmt an
key-answers-seen = Nimmt an und zeigt deine Kamera
key-declines = Lehnt ab
key-declines-saying = Lehnt mit einer Nachricht ab
key-stops-calling = Hört auf anzurufen
key-mutes = Macht dich stumm oder wieder laut
key-camera = Kamera an oder aus
key-shares = Zeigt einen Bildschirm oder ein Fenster
key-records = Nimmt den Anruf auf
key-holds = Hält die andere Seite
key-hangs-up = Legt auf
key-ignores = Lässt nichts mehr von dem hören, der sonst anruft
key-other-does = Nimmt an oder lehnt ab, wer sonst anruft
key-switches = Macht mit dem gehaltenen Anruf weiter
key-talks = Lässt dich mit Sprechtaste hören, solange sie gehalten wird

## Lending

mbit-half = 0,5 Mbit/s
mbit-2 = 2 Mbit/s
mbit-10 = 10 Mbit/s
mbit-50 = 50 Mbit/s
people-10 = 10 Geräte
people-50 = 50 Geräte
people-200 = 200 Geräte
people-1000 = 1000 Geräte
lend = Leih deine Verbindung aus
lend-switch = Anderen beim Anrufen helfen
lend-switch-why = Dieser Rechner ist eine Supernode für Leute, die keine haben: Er gibt weiter, was er nicht lesen kann.
lend-most = Höchstens so viel wird für andere weitergegeben:
lend-people = Für höchstens so viele zugleich:
lend-metered = Auch, wo nach Daten bezahlt wird
lend-metered-why = Sonst wird nichts ausgeliehen, während dieser Rechner in so einem Netz ist.
lending-off = Du leihst nichts aus.
lending-looking = Andere Supernodes werden gefragt, ob sie diesen Rechner erreichen; sonst erfährt es noch niemand.
lending-unreachable = Von { $asked } gefragten Netzen erreichen { $reached } diesen Rechner, darum erfährt es niemand: Lass UDP an deinem Router oder deiner Firewall herein.
lending-now = Jetzt: { $people } von höchstens { $most } Geräten angemeldet, { $calls ->
        [one] 1 Ende eines Anrufs
       *[other] { $calls } Enden von Anrufen
    }, höchstens { $kbps } kbit/s.
lending-done = Seit { $since } wurde { $people ->
        [one] 1 Person
       *[other] { $people } Leuten
    } geholfen und { $bytes } ihrer Anrufe weitergegeben.
lending-on = Du leihst aus: { $people ->
        [one] 1 Person ist
       *[other] { $people } Leute sind
    } hier angemeldet, { $helped ->
        [one] 1 Person
       *[other] { $helped } Leuten
    } wurde bisher geholfen.
lending-busy = Du leihst aus, und alles ist in Gebrauch: im Moment keine neuen Anrufe.
lending-metered = Nichts wird ausgeliehen, solange dieser Rechner in einem Netz ist, das nach Daten bezahlt wird.
lending-stopping = Wer diesen Rechner benutzt, zieht zu anderen um.
lending-failed = Das Ausleihen beginnt nicht.

## The network, and the way of a call

station-supernode = eine Supernode
station-tcp = eine Supernode, über TCP
station-lan = dein Netz
station-none = noch kein Weg
station-you = Du
now = Jetzt
your-router = Dein Router
not-measured-yet = Noch nicht gemessen: Das braucht eine Supernode und ein paar Sekunden.
family-line = { $family }: { $line }
standing-in = Anrufe kommen durch sie herein
standing-silent = antwortet nicht
standing-away = { $millis } ms entfernt
standing-lied = sie hat etwas gezeigt, das niemand unterschrieben hat
standing-unknown = über sie ist noch nichts bekannt
standing-words = von etwa { $all ->
        [one] 1 Versprechen
       *[other] { $all } Versprechen
    } hielt sie { $kept }
call-page-empty = Hier steht, wie ein Anruf läuft, solange es einen gibt: Verzögerung, Verluste und was ihn bremst.
last-five-minutes = Die letzten fünf Minuten
first-second = Die erste Sekunde wird gemessen…
copy-as-text = Als Text kopieren
search-took = Die Suche nach einem direkten Weg hat bisher { $packets } Pakete an { $flows } Adressen gekostet.
way-of-sound = Der Weg des Tons: { $stations }
plot-rtt = Hin und zurück
plot-lost-here = Verloren auf dem Weg zu dir
plot-lost-there = Verloren auf dem Weg dorthin
plot-restored = Ersetzt
plot-invented = Erfundener Ton
plot-buffer = Jitterpuffer
plot-sent = Gesendete Stimme
plot-capacity = Was der Weg dorthin trägt
plot-value = { $value } { $unit }
not-measured = nicht gemessen
nat-inside = Die Supernode ist im selben Netz; was zwischen dem und dem Internet steht, ist von dort nicht zu sehen.
nat-none = Nichts übersetzt die Pakete; andere sehen sie, wie sie gesendet werden.
nat-several = Verschiedene Leute sehen dich unter verschiedenen Adressen: Manche Anrufe bleiben bei der Supernode.
nat-one-port = Ein Port nach außen genügt für alle: Anrufe werden mit fast allen direkt.
nat-many-ports = Jede Person sieht einen anderen Port. Anrufe werden mit Leuten direkt, deren NAT einfacher ist; mit den übrigen raten sie Ports und bleiben bei der Supernode, wo das misslingt.
nat-unseen = Mit einer Supernode, von der kein anderer Port erreichbar ist, ist mehr nicht zu sehen.
nat-lets-known = Wer den Port kennt, kommt durch, zumindest von Adressen, an die geschrieben wurde.
nat-lets-written = Nur wem geschrieben wurde, kommt durch, wie hinter den meisten Routern: Beide Seiten eines Anrufs öffnen den Weg.
nat-no-second-port = Die Supernodes haben keinen zweiten Port, um es zu prüfen.

## A person

sure-verified = Geprüft: Du hast mit { $name } Sicherheitswörter verglichen. Sollte jemand anderes an diese Stelle treten, gilt das nicht mehr, und du erfährst es.
sure-unverified = Nicht geprüft. In einem Anruf seht ihr beide dieselben sechs Wörter: Lest sie euch vor, dann kann niemand dazwischen sein. Sie gehören nur zu diesem Anruf.
sure-doubtful = Vorsicht: Es gibt zwei Gerätelisten von { $name }, die sich widersprechen. Entweder hat { $name } mit denselben Wörtern neu angefangen, oder jemand gibt sich für { $name } aus. Frag auf einem anderen Weg nach und vergleicht dann noch einmal.
favourite = Favorit
favourite-why = Steht oben in der Liste.
their-calls = Ihre Anrufe
ring-usual = Klingeln wie üblich
ring-always = Klingeln immer
ring-never = Klingeln nie
ring-usual-why = Außer du willst nicht gestört werden.
ring-always-why = Auch wenn du nicht gestört werden willst.
ring-never-why = Sie werden angezeigt, ohne Ton.
what-they-learn = Was sie erfahren
hide-my-address = Meine Adresse verbergen
hide-address-why = Anrufe mit dieser Person gehen nur über Supernodes, etwas später.
their-link = Der Link, ohne den Ort:
copy-their-link = Link kopieren
stranger-is = Kein Kontakt von dir: kann nicht klingeln und erfährt nicht, dass du etwas gelesen hast
rename = Umbenennen
name-if-otherwise = Name, wenn du sie anders nennst
what-they-are-called = Wie sie heißen
is-it-really = Ist es wirklich { $name }?
they-are-the-same = Sie sind gleich
they-differ = Sie sind verschieden
call-to-compare = Anrufen und Wörter vergleichen
words-differed = Dann leg auf und sag nichts, was sonst niemand hören darf: Vielleicht ist jemand zwischen euch. Gebt euch eure Links auf einem anderen Weg und versucht es noch einmal.
words-compared = Sicherheitswörter verglichen
words-compared-why = Ihr habt euch die Wörter eines Anrufs vorgelesen, und sie waren gleich.
block = Blockieren
block-them = Wirklich blockieren?
forget = Vergessen
forget-contact = Kontakt vergessen?
put-away = Weglegen
put-away-really = Weglegen?
block-means = Du hörst nichts mehr von ihnen, und sie erfahren es nicht. In den Einstellungen unter Privatsphäre kannst du das aufheben; ein Kontakt sind sie dann nicht mehr.
forget-means = Dann ist die Person fremd und muss fragen. Was geschrieben wurde, bleibt; ob Wörter verglichen wurden, nicht.
keep-as-it-is = So lassen
voice-call = Sprachanruf
video-call = Videoanruf
messages = Nachrichten
file-dots = Datei…
send-them-a-file = Der Person eine Datei senden

## Settings

not-saved = Das ist nicht gesichert: { $error }
keyring-needs-passphrase = dafür wird die Passphrase gebraucht: Setz den Haken dort, wo ahoy danach fragt
tab-sound = Ton
tab-you = Du
tab-devices = Geräte
tab-privacy = Privatsphäre
tab-network = Netz
tab-call = Anruf
tab-look = Aussehen
tab-keys = Tasten
waits-for-start = Einiges, was du gewählt hast, gilt vom nächsten Start von ahoy an.
settings-being-read = Die Einstellungen werden gelesen…
name-stands = Steht in deinem Link, und wer dich nicht kennt, sieht ihn, wenn du anrufst.
your-card = Deine Karte
first-steps = Erste Schritte
first-steps-are = Name, Tonprobe und Karte, eins nach dem anderen.
show-again = Noch einmal zeigen
how-calls-get-through = Wie Anrufe durchkommen
supernodes-of-choice = Supernodes deiner Wahl
supernodes-are = Wo du dich anmeldest, damit Anrufe dich finden. Alle können eine betreiben und dir den Link geben.
remove-what = { $what } entfernen
node-link-hint = ahoy-node:…-Link
link-of-supernode = Link einer Supernode
add = Hinzufügen
proxy = Proxy
proxy-is = Wodurch TCP-Verbindungen zu Supernodes gehen; leer: wie das System sagt; none: nichts.
proxy-hint = socks5://host:port
save-proxy = Proxy sichern
colours = Farben
as-the-system = Wie das System
dark = Dunkel
light = Hell
scale-title = Größe
size-is = Von allem: Text, Knöpfe und Abstände.
size-of-everything = Größe von allem
language-title = Sprache
the-window = Das Fenster
no-link-yet = Du hast noch keinen Link: Er kommt, sobald eine Supernode antwortet oder jemand in deinem Netz erreichbar ist.
card-is = Wer diesen Link hat, kann dich um einen Anruf bitten. Schick ihn, oder lass ein Telefon das Bild lesen.
copy-your-link = Deinen Link kopieren
is-person-link = Das ist der Link einer Person: Der einer Supernode beginnt mit ahoy-node:
no-supernode-link = Das ist kein Link einer Supernode: { $error }
port-mapping = Den Router um einen Port bitten
port-mapping-why = Anrufe gehen öfter direkt, über PCP, NAT-PMP oder UPnP.
lan-discovery = Leute in diesem Netz finden
lan-discovery-why = Anrufe darin brauchen keine Supernode und kein Internet.
guess-ports = Ports raten
guess-ports-why = Ein direkter Weg durch störrische Router, für einige hundert Pakete.
directory = Supernodes finden Leute
directory-why = Hinterlässt bei anderen Supernodes, wo du bist, und fragt sie nach anderen.
dht = Die öffentliche Tabelle findet Leute
dht-why = Ihre Knoten sehen deine Adresse und wen du suchst.
dht-publish = Über die öffentliche Tabelle gefunden werden
dht-publish-why = Ihre Knoten, die allen gehören können, sehen, welche Adresse du hast.
accept-files = Dateien ohne Nachfrage nehmen
accept-files-why = Was Kontakte anbieten, kommt sofort, in deinen Ordner für Downloads.
call-waiting = Andere warten lassen
call-waiting-why = Wer anruft, während du sprichst, kann angenommen oder abgelehnt werden; sonst hört man, dass besetzt ist.
keyring = Der Schlüsselbund des Desktops öffnet dieses Profil
keyring-why = Wer angemeldet ist, wird nicht nach der Passphrase gefragt, die es weiterhin öffnet.
keep-running = Klingeln, wenn das Fenster zu ist
keep-running-why = Schließen verbirgt es nur: Starte ahoy noch einmal, um es zu sehen; Strg+Q beendet es.
autostart = Mit der Sitzung starten
autostart-why = Ohne Fenster; es öffnet sich, wenn jemand anruft.
strangers-ask = Erst fragen
strangers-ask-why = Fremde warten still bei den Anfragen.
strangers-ring = Klingeln
strangers-ring-why = Fremde klingeln wie alle anderen.
strangers-drop = Niemand
strangers-drop-why = Fremde finden hier niemanden, und du hörst nichts von ihnen.
automatic = Automatisch
path-auto-why = Sofort über eine Supernode, direkt, sobald das geht.
path-relay-why = Nur über Supernodes: Die andere Seite erfährt nie, wo du bist.
path-direct-only = Nur direkt
path-direct-why = Nie über eine Supernode; wo kein direkter Weg ist, ist kein Anruf.
path-tcp-only = Nur TCP
path-tcp-why = Nur über Supernodes und mit TCP, wo sonst nichts durchgelassen wird.
when-strangers-call = Wenn jemand anruft, den du nicht kennst
while-you-talk = Während du sprichst
ways-calls-take = Wege, die Anrufe nehmen
finding = Finden und gefunden werden
files = Dateien
what-opens-profile = Was dieses Profil öffnet
messages-and-history = Nachrichten und Verlauf
history-is = Was du schreibst, wartet versiegelt bei den Supernodes der anderen Seite, bis ihr Gerät es holt. Was geschrieben wurde und wen du angerufen hast, bleibt in diesem Profil.
blocked-people = Blockierte Leute
nobody-blocked = Du hast niemanden blockiert.
blocked-means = Sie erfahren es nicht und erreichen hier niemanden. Danach sind sie Fremde, die fragen müssen.
unblock = Freigeben
unblock-whom = { $name } freigeben

## What is shown to the other side

way-text = Text
way-motion = Bewegung
they-see = { $name } sieht { $what }
stop-showing = Nicht mehr zeigen
bar-title = ahoy: was du zeigst
hide-bar = Leiste verbergen
with-sound = Mit Ton
with-sound-why = Was andere Programme abspielen, ist auch zu hören
how-screens-are-sent = Wie Bildschirme und Fenster gesendet werden
judged-text = Nach dem, was zu sehen ist: gerade Text oder ein Standbild, also scharf.
judged-motion = Nach dem, was zu sehen ist: Gerade bewegt es sich, also flüssig.
judged-nothing = Nach dem, was zu sehen ist: Text scharf, Bewegtes flüssig.
sent-as-text = Scharf, und volle Größe vor vielen Bildern.
sent-as-motion = Flüssig, und viele Bilder vor voller Größe.
screens = Bildschirme
windows = Fenster
cameras = Kameras
looking-for-screens = Bildschirme und Fenster werden gesucht…
no-other-window = Kein anderes Fenster ist offen.
your-camera = deine Kamera
the-test-pattern = das Testbild
a-film = einen Film
your-window = dein Fenster „{ $window }“
one-of-your-windows = eines deiner Fenster
your-screen = deinen Bildschirm
show-what = { $what } zeigen

## The menu in the tray

tray-show = Fenster zeigen
tray-quit = Beenden

## Who can be reached

presence-switch = Kontakte sehen, ob du erreichbar bist
presence-switch-why = Und du siehst es von ihnen. Ihre Geräte werden gefragt, solange dieses Fenster offen ist, mit einer versiegelten Frage, die nur sie öffnen können; Antwort bekommen nur Kontakte. Eine Supernode von ihnen sieht, was sie von einem Anruf sieht: dass jemand nach ihnen gefragt hat, und von welcher Adresse. Aus: Du antwortest nicht und fragst nicht. Wem deine Adresse verborgen bleibt, wird nicht gefragt.
your-contacts = Deine Kontakte
is-reachable = Jetzt erreichbar
is-away = Jetzt nicht erreichbar
is-reachable-now = { $name } ist jetzt erreichbar
is-away-now = { $name } ist jetzt nicht erreichbar

## What went wrong

trouble-disk-full = der Datenträger ist voll: schaff Platz
trouble-disk-denied = das System erlaubt es nicht: wähl einen anderen Ordner oder ändere, was dort erlaubt ist
trouble-disk-read-only = dort lässt sich nichts schreiben: wähl einen anderen Ordner
trouble-disk-missing = diese Datei oder diesen Ordner gibt es nicht
trouble-disk-other = das System sagt: { $error }
trouble-file-full = der Datenträger ist voll: schaff Platz und lass es weitergehen
trouble-file-disk = { $path } lässt sich nicht schreiben: { $why }
trouble-file-names = in { $folder } heißen zu viele Dateien so
trouble-file-unreadable = { $path } lässt sich nicht lesen: { $why }.
trouble-no-file = { $path } ist keine Datei.
trouble-file-larger = { $path } ist größer als alles, was gesendet werden kann: höchstens { $most }.
trouble-disk-busy = Der Datenträger ist beschäftigt. Versuch es noch einmal.
trouble-too-many-files = Zu viele Dateien sind zu dieser Person unterwegs: brich einige ab.
trouble-unknown-file = Diese Datei ist nicht mehr unterwegs.
trouble-own-file = Eine Datei von dir lässt sich nur abbrechen, und nur, bevor sie da ist.
trouble-file-complete = Diese Datei ist ganz da.
trouble-file-was-refused = Du wolltest diese Datei nicht, und { $person } weiß es. Bitte darum, sie noch einmal zu bekommen.
trouble-no-folder = Es gibt keinen Ordner für Dateien: setz download_folder in settings.toml.
trouble-file-still = Diese Datei bewegt sich nicht.
trouble-link-empty = er ist leer
trouble-link-long = er ist länger als jeder Link; wurde etwas dahinter eingefügt?
trouble-link-space = darin ist ein Leerzeichen oder Umbruch; kopier ihn noch einmal am Stück
trouble-link-none = der einer Person beginnt mit ahoy: und der einer Supernode mit ahoy-node:
trouble-link-slashes = schreib ahoy: ohne Schrägstriche
trouble-link-case = schreib den Anfang klein
trouble-link-person-wanted = er gehört einer Supernode; frag nach dem, der mit ahoy: beginnt
trouble-link-node-wanted = er gehört einer Person; der einer Supernode beginnt mit ahoy-node:
trouble-link-cut = sein Schlüssel hat { $count } Zeichen statt { $all }; wurde er abgeschnitten?
trouble-link-character = { $character } kommt in keinem Schlüssel vor; kopier ihn, statt ihn zu tippen
trouble-link-mistyped = sein Schlüssel ist vertippt; kopier ihn, statt ihn zu tippen
trouble-link-newer = ein neueres ahoy hat ihn gemacht; aktualisiere, um ihn zu benutzen
trouble-link-damaged = ein Teil davon ({ $part }) ist beschädigt; kopier ihn noch einmal
trouble-link-home = die Adresse einer Supernode darin stimmt nicht; kopier ihn noch einmal
trouble-link-node = geschrieben wird er ahoy-node:SCHLÜSSEL@HOST:PORT; kopier ihn noch einmal
trouble-link-invite = die Einladung darin ist beschädigt oder abgelaufen; bitte um eine neue
trouble-name-unknown = Kein Kontakt heißt { $name }.
trouble-name-several = Mehrere Kontakte heißen { $name }: gib einem davon einen anderen Namen.
trouble-own-link = Das ist dein eigener Link: bitte die andere Person um ihren.
trouble-own-link-add = Das ist dein eigener Link: gib ihn anderen.
trouble-node-link = Das ist der Link einer Supernode: Der einer Person beginnt mit ahoy:
trouble-no-contact = Diese Person ist kein Kontakt von dir.
trouble-declined-silently = Geschrieben wird nur an Kontakte: Der Anruf wurde ohne ein Wort abgelehnt.
trouble-no-name = Ein Kontakt braucht einen Namen.
trouble-profile = Das Profil lässt sich nicht schreiben oder lesen: { $error }.
trouble-not-saved = Das gilt, bis ahoy geschlossen wird, und ließ sich nicht speichern: { $error }.
trouble-rescued = Die Datenbank des Profils war beschädigt. Sie liegt als { $file } beiseite; { $read } ihrer Einträge waren lesbar, { $added } weitere kommen aus einer Kopie, und Nachrichten können fehlen.
trouble-no-echo = Der Echotest beginnt nicht: { $error }.
trouble-in-call = Es läuft schon ein Anruf: leg zuerst auf.
trouble-no-call = Diesen Anruf gibt es nicht mehr.
trouble-not-ringing = Der Anruf klingelt hier nicht mehr.
trouble-not-talking = Ein Anruf lässt sich aufnehmen, sobald ihr sprecht: Die andere Seite muss davon erfahren.
trouble-no-words = Dieser Anruf hat keine Sicherheitswörter: Die andere Seite hat den Austausch dahinter gebrochen. Vielleicht sitzt jemand dazwischen; trau diesem Anruf nicht.
trouble-media = Dein Ton lässt sich nicht einrichten: { $error }.
trouble-device-none-microphone = Kein Mikrofon gefunden: steck eins an.
trouble-device-none-speaker = Kein Lautsprecher gefunden: steck einen an.
trouble-device-away = Das gewählte Gerät ist nicht da: steck es an oder wähl ein anderes.
trouble-device-busy = Das Gerät wird von einem anderen Programm benutzt: schließ es oder wähl ein anderes Gerät.
trouble-device-denied = Das System lässt ahoy das Gerät nicht benutzen: erlaub es in dessen Einstellungen zur Privatsphäre.
trouble-device-format = Das Gerät bietet kein brauchbares Tonformat ({ $format }): wähl ein anderes.
trouble-device-lost = Das Gerät ist weg.
trouble-device-stalled = Das Gerät arbeitet nicht mehr.
trouble-sound-hung = Das Tonsystem antwortet nicht: starte es neu, oder den Rechner.
trouble-sound-system = Das Tonsystem versagt: { $error }.
trouble-microphone-lost = Dein Mikrofon: { $why }
trouble-speaker-lost = Dein Lautsprecher: { $why }
trouble-microphone-open = Dein Mikrofon ist { $device }.
trouble-speaker-open = Dein Lautsprecher ist { $device }.
trouble-microphone-gone = Das gewählte Mikrofon ist weg, und nichts tritt an seine Stelle: steck es an oder wähl ein anderes.
trouble-speaker-gone = Der gewählte Lautsprecher ist weg, und nichts tritt an seine Stelle: steck ihn an oder wähl einen anderen.
trouble-microphone-displaced = Das System hat vielleicht für einen Augenblick ein anderes Mikrofon benutzt; das gewählte ist wieder da.
trouble-speaker-displaced = Das System hat vielleicht für einen Augenblick einen anderen Lautsprecher benutzt; der gewählte ist wieder da.
trouble-microphone-follows = Dein Mikrofon ist jetzt { $device }, wie es das System sagt.
trouble-speaker-follows = Dein Lautsprecher ist jetzt { $device }, wie es das System sagt.
trouble-others-need-devices = Was andere Programme spielen, ist nur in Anrufen mit Mikrofon oder Lautsprecher zu hören.
trouble-others-unheard = Was andere Programme spielen, ist nicht zu hören: { $why }.
trouble-picture-black = Dein Bildschirm ist für die andere Seite schwarz: Unter Wayland sieht ein Programm von sich aus nur Fenster von X11-Programmen. Wähl den Bildschirm stattdessen im Dialog deiner Arbeitsfläche.
trouble-picture-unseen = Die andere Seite zeigt keine Bilder, also werden keine gesendet. Zu hören bist du trotzdem.
trouble-picture-codec = Die andere Seite zeigt keine Bilder in einem Format von uns, also werden keine gesendet. Zu hören bist du trotzdem; jemand von euch sollte ahoy aktualisieren.
trouble-picture-not-encoded = Dein Bild wird nicht gesendet ({ $error }). Mit jedem wird es wieder versucht.
trouble-picture-undecodable = Ein Bild der anderen Seite lässt sich nicht dekodieren, also bleibt das letzte stehen; ein neues ist angefordert. Geht das so weiter, sollte jemand von euch ahoy aktualisieren.
trouble-picture-stuck = Dein Bild wird gerade nicht gesendet: Die Verbindung trägt zu wenig dafür, oder dieser Rechner ist beschäftigt. Zu hören bist du, und es kommt von selbst wieder.
trouble-picture-not-built = Dieses ahoy wurde ohne Bilder gebaut.
trouble-picture-not-yet = Bilder lassen sich zeigen, sobald ihr sprecht.
trouble-picture-nobody = Die andere Seite zeigt keine Bilder. Zu hören bist du trotzdem.
trouble-picture-open = Das lässt sich nicht zeigen: { $error }.
trouble-no-camera = Keine Kamera ist angesteckt, also sieht dich die andere Seite nicht. Sie tut es, sobald eine da ist.
trouble-camera-away = Die Kamera { $camera } ist nicht angesteckt, also sieht dich die andere Seite nicht. Sie tut es, sobald sie es ist.
trouble-camera-unknown = Die Kamera { $camera } ist nicht angesteckt, also sieht dich die andere Seite nicht. Es gibt: { $there }.
trouble-camera-several = Mehrere Kameras heißen { $camera }, also wird keine benutzt. Wähl eine: { $several }.
trouble-camera-unplugged = Die Kamera { $camera } wurde abgezogen, also sieht dich die andere Seite nicht. Steck sie wieder an, dann tut sie es.
trouble-camera-denied = Du darfst { $camera } nicht benutzen, also sieht dich die andere Seite nicht. Tritt der Gruppe bei, der sie gehört (sudo usermod -aG video $USER), und melde dich neu an.
trouble-camera-busy = Die Kamera { $camera } wird von einem anderen Programm benutzt, also sieht dich die andere Seite nicht. Schließ es, dann tut sie es.
trouble-camera-broken = Die Kamera { $camera } arbeitet nicht ({ $error }), also sieht dich die andere Seite nicht. Es wird wieder versucht; hilft das nicht, zieh sie ab und steck sie wieder an.
trouble-camera-format = Die Kamera { $camera } liefert Bilder, die niemand hier versteht ({ $given }), also sieht dich die andere Seite nicht. Wähl eine andere Kamera.
trouble-camera-silent = Die Kamera { $camera } liefert keine Bilder, also sieht dich die andere Seite nicht. Es wird wieder versucht; ist ihre Klappe zu oder ihre Taste für Privatsphäre gedrückt?
trouble-no-screens = Bildschirme lassen sich bisher nur unter Linux zeigen, also sieht die andere Seite nichts.
trouble-no-display-wayland = Hier gibt es keine Anzeige von X11, also sieht die andere Seite nichts. Wähl den Bildschirm im Dialog deiner Arbeitsfläche, oder melde dich in einer Sitzung mit X11 an.
trouble-no-display = Es gibt keine Anzeige zum Zeigen (ist DISPLAY gesetzt, und darfst du sie benutzen?), also sieht die andere Seite nichts. Sie wird wieder gesucht.
trouble-display-lost = Die Anzeige ist weg oder antwortet nicht, also sieht die andere Seite nichts davon. Sie wird wieder gesucht.
trouble-display-refuses = Die Anzeige lässt sich nicht lesen, also sieht die andere Seite nichts davon. Es wird wieder versucht.
trouble-screen-number = Dieser Bildschirm lässt sich nicht zeigen: Diese Nummer gibt es nicht.
trouble-screen-depth = Dieser Bildschirm lässt sich nicht zeigen: Seine Bildpunkte haben { $depth } Bit. Wähl in den Einstellungen der Anzeige eine Tiefe von 24.
trouble-screens-size = Alle Bildschirme zusammen sind zu groß zum Zeigen: wähl einen davon.
trouble-screen-size = Das hat eine Größe, die sich nicht zeigen lässt: mach es größer oder kleiner.
trouble-screen-unknown = Es gibt keinen Bildschirm { $screen }, also sieht die andere Seite nichts, bis es ihn gibt. Es gibt: { $there }.
trouble-window-unknown = Kein Fenster heißt „{ $window }“, also sieht die andere Seite nichts, bis es eins gibt.
trouble-window-several = Mehrere Fenster heißen „{ $window }“, also sieht die andere Seite keins. Wähl eins: { $several }.
trouble-window-closed = Das Fenster „{ $window }“ wurde geschlossen, also sieht die andere Seite nichts Neues davon. Es wird wieder gezeigt, sobald eins so heißt.
trouble-window-closed-for-good = Das Fenster „{ $window }“ wurde geschlossen, also sieht die andere Seite nichts Neues davon. Wähl ein anderes.
trouble-window-hidden = Das Fenster „{ $window }“ ist minimiert, also sieht die andere Seite nichts Neues davon, bis du es wieder öffnest.
trouble-locked = Dein Bildschirm ist gesperrt oder schläft, also sieht die andere Seite nichts Neues davon, bis du zurück bist.
trouble-no-portal = Deine Arbeitsfläche hat keinen Weg, auf dem Programme ihre Bildschirme zeigen, also sieht die andere Seite nichts. Installier xdg-desktop-portal mit dem Teil für deine Arbeitsfläche und PipeWire, oder melde dich in einer Sitzung mit X11 an.
trouble-not-picked = Im Dialog deiner Arbeitsfläche wurde nichts gewählt, also sieht die andere Seite nichts. Teil noch einmal, um wieder gefragt zu werden.
trouble-share-ended = Deine Arbeitsfläche hat das Zeigen beendet, also sieht die andere Seite nichts mehr. Teil noch einmal, um weiterzumachen.
trouble-portal-format = Deine Arbeitsfläche liefert keine Bilder, die ahoy versteht, also sieht die andere Seite nichts. Sag uns, welche es ist.
trouble-film = Es werden keine Bilder mehr gesendet: { $error }.
trouble-recorded-already = Dieser Anruf wird schon aufgenommen.
trouble-other-recorded = Der gehaltene Anruf wird aufgenommen: wechsle zu ihm und beende das zuerst.
trouble-record-exists = Es gibt schon eine Datei { $path }, und nichts wird darüber aufgenommen: wähl einen anderen Namen.
trouble-record-create = Die Aufnahme { $path } lässt sich nicht anlegen: { $why }.
trouble-record-write = Die Aufnahme { $path } ist abgebrochen: { $why }. Was bis dahin aufgenommen wurde, bleibt.
trouble-record-other = Nichts wird aufgenommen: { $error }.
trouble-nothing-to-say = In dieser Nachricht steht nichts.
trouble-outbox-full = Zu viele Nachrichten warten hier aufs Senden. Versuch es wieder, wenn einige fort sind.
trouble-message-not-kept = Die Nachricht lässt sich nicht aufheben und wird nicht gesendet: { $error }.
trouble-files-to-contacts = Dateien gehen nur an Kontakte: füg die Person zuerst hinzu.
trouble-cannot-lend = Dieses ahoy kann nichts verleihen.
trouble-no-pass = Eine Supernode dient nur einem privaten Netz: bitte um eine Einladung und tritt ihm bei.
trouble-pass-foreign = Eine Supernode dient einem anderen privaten Netz als dem, in dem du bist.
trouble-pass-expired = Deine Einladung ins private Netz ist abgelaufen: bitte um eine neue.
trouble-pass-revoked = Deine Einladung ins private Netz wurde zurückgenommen.
trouble-pass-taken = Deine Einladung ins private Netz hat vorher jemand anders benutzt. Sag es der Person, die sie gemacht hat, und bitte um eine neue.
trouble-pass-wrong = Der Ausweis fürs private Netz gehört nicht diesem Gerät.
trouble-supernode-refuses = Eine Supernode lässt dieses Gerät nicht ein: { $error }.
trouble-pass-over = Deine Einladung ins private Netz ist zu Ende: Niemand dort kann dich anrufen oder angerufen werden. Bitte die Person, die es betreibt, um eine neue.
trouble-taken-out = Ein anderes Gerät von dir hat dieses herausgenommen: Es spricht nicht mehr für dich, und von hier ist niemand zu erreichen.
trouble-own-fork = Es gibt zwei Listen deiner eigenen Geräte, die einander widersprechen: Jemand anders hat deinen Schlüssel oder eins deiner Geräte. Mach eine neue Identität und sag es deinen Kontakten.
trouble-fork = Die Geräteliste von { $name } widerspricht der früheren: Vielleicht gibt sich jemand als { $name } aus. Frag auf einem anderen Weg nach. Der Beweis ist aufgehoben.
trouble-unwitnessed = Keine Supernode hat die Geräteliste von { $name } unterschrieben, obwohl sie Stunden alt ist. So ist es, wo deren Supernodes älter sind oder jemand sie nur dir zeigt. Vergleicht im Anruf die Sicherheitswörter.
trouble-pass-ends =
    { $days ->
        [one] Deine Einladung ins private Netz endet in { $days } Tag: bitte vorher die Person, die es betreibt, um eine neue.
       *[other] Deine Einladung ins private Netz endet in { $days } Tagen: bitte vorher die Person, die es betreibt, um eine neue.
    }
trouble-contradicted =
    { $networks ->
        [one] Es gibt zwei Gerätelisten von { $name }, und Supernodes in { $networks } Netz haben die unterschrieben, von der der neueste Eintrag nicht spricht: Vielleicht gibt sich jemand als { $name } aus. Vergleicht im Anruf die Sicherheitswörter, oder frag auf einem anderen Weg nach.
       *[other] Es gibt zwei Gerätelisten von { $name }, und Supernodes in { $networks } Netzen haben die unterschrieben, von der der neueste Eintrag nicht spricht: Vielleicht gibt sich jemand als { $name } aus. Vergleicht im Anruf die Sicherheitswörter, oder frag auf einem anderen Weg nach.
    }
trouble-behind =
    { $networks ->
        [one] Supernodes in { $networks } Netz haben eine längere Geräteliste von { $name } unterschrieben, als der neueste Eintrag kennt: Er führt vielleicht zu einem Gerät, das { $name } herausgenommen hat. Frag auf einem anderen Weg nach.
       *[other] Supernodes in { $networks } Netzen haben eine längere Geräteliste von { $name } unterschrieben, als der neueste Eintrag kennt: Er führt vielleicht zu einem Gerät, das { $name } herausgenommen hat. Frag auf einem anderen Weg nach.
    }

## A locked profile

profile-is-locked = Dieses Profil ist verschlossen
passphrase = Passphrase
open = Öffnen
keep-in-keyring = Künftig öffnet es der Schlüsselbund
trying-failed = Der Versuch ist gescheitert.
wrong-passphrase = Das ist nicht die Passphrase. Nichts wurde geändert.
locked-means = Deine Kontakte, Nachrichten und Schlüssel sind auf diesem Gerät versiegelt. Niemand kann eine vergessene Passphrase zurückholen.

## The first minute

step-name = Wie heißt du?
step-sound = Geht dein Ton?
step-camera = Sieht man dich gut?
step-card = Das ist deine Karte
step-of = Schritt { $number } von { $all }
sound-step-is = Sprich, und sieh, wie der Pegel ausschlägt. Nimm drei Sekunden auf, um dich zu hören, wie andere es tun.
camera-step-is = Du siehst dich wie im Spiegel. Nichts wird gesendet, und die Kamera ist aus, sobald du weitergehst.
mirror-opens = Eine Kamera wird gesucht …
mirror-missing = Hier ist keine Kamera. Anrufe gehen auch ohne; steck eine an, dann ist ihr Bild hier zu sehen.
mirror-denied = Du darfst die Kamera nicht benutzen. Tritt der Gruppe bei, der sie gehört (meistens: video), und melde dich neu an.
mirror-busy = Ein anderes Programm benutzt die Kamera. Schließ es, dann kommt das Bild hierher.
mirror-gone = Die Kamera wurde abgezogen. Steck sie wieder an.
mirror-failed = Die Kamera gibt kein Bild. Steck sie neu an oder wähle eine andere.
name-step-is = Wen du anrufst, sieht ihn. Es gibt kein Konto: Wer du bist, ist ein Schlüssel, der eben gemacht wurde und auf diesem Gerät bleibt.
next = Weiter
skip-all = Alles überspringen
i-have-ahoy = Ich habe ahoy schon
