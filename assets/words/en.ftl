### What the window says, in English.
###
### Each message is a function of `ui::words`, made by app/build.rs: it has the same arguments in all languages, or nothing is
### built. What chooses between forms is a whole number, and the forms are those of CLDR's plural rules.


## Parts that stand everywhere

done = Done
back = Back
cancel = Cancel
copied = Copied
remove = Remove
save = Save
settings = Settings
close-settings = Close the settings
do-not-disturb = Do not disturb
name = Name
your-name = Your name
key-enter = Enter
add-to-contacts = Add to contacts
verified = verified
careful = careful
unread =
    { $count ->
       *[other] { $count } unread
    }
call-them = Call
missed-call = Missed call
percent = { $percent } %

## How a call was

how-was-it = How was it? What you say stays on this device.
rating-bad = Bad
rating-poor = Poor
rating-fair = Fair
rating-good = Good
rating-excellent = Excellent
rating-of = { $word }: { $rating } of { $most }
copy-report = Copy the report
report-is = What was measured, for whoever helps you: without names, addresses and keys.

## The call

call-again = Call again
close = Close
you-muted = You (muted)
you-meter = You
microphone-level = Microphone level
them-meter = Them
speaker-level = Speaker level
hold-space-to-talk = Hold the space bar to talk.
read-words = Read these words to each other. The same on both sides: nobody is in between.
old-words = Their ahoy is older and makes these words in a weaker way: update it, then compare.
volume = Volume
volume-of = Volume of { $name }
words-on-both-sides = The same words on both sides: { $words }
phase-calling = Calling…
phase-ringing = Ringing…
phase-incoming = calls you
phase-connecting = Connecting…
talking-on-hold = { $clock } · on hold: { $name } hears nothing
talking-held-there = { $clock } · { $name } has put you on hold
talking-by-path = { $clock } · { $path } · end-to-end encrypted
talking = { $clock } · end-to-end encrypted
path-direct = direct
path-relay = relay
path-lan = lan
path-tcp = tcp
reconnecting-for = The connection is gone. Reconnecting, for { $clock } more
reconnecting = The connection is gone. Reconnecting…
mute = Mute
unmute = Unmute
answer = Answer
answer-seen = Answer with camera
decline = Decline
decline-saying = Decline with a message
reply-title = Decline, and write to { $name }
reply-back = I will call you back soon.
reply-later = I cannot talk now. Can we talk later?
reply-write = I cannot talk now. Write to me what it is about.
reply-own = Your own words
reply-send = Decline and send
camera = Camera
stop-camera = Stop camera
share = Share
sharing = Sharing
record = Record
stop-recording = Stop recording
hold = Hold
resume = Resume
hang-up = Hang up
ignore = Ignore
switch-calls = Switch
other-waits = { $them } calls, too. Answering puts { $name } on hold.
other-ignored = { $them } still calls.
other-on-hold = { $them } is on hold.
other-reconnecting = { $them } is on hold, and the connection is gone.
choose-device = Choose another device
choose-to-show = Choose what to show
recording-for = Recording { $clock }
recorded-to = Recorded to { $path }
records-there = { $name } is recording
stage-held = You have put { $name } on hold
stage-held-there = { $name } has put you on hold
stage-still = No new picture comes from { $name }: the connection may carry too little for it
picture-of = Picture of { $name }
shows-no-picture = { $name } shows no picture
cannot-draw = Pictures cannot be drawn by this graphics driver.
own-picture = Your own picture, as in a mirror
what-you-show = What you show
title-unread = ({ $unread }) ahoy
title-calling = Calling { $name } - ahoy
title-incoming = { $name } calls you - ahoy
title-connecting = Connecting to { $name } - ahoy
title-muted = { $name } (you are muted) - ahoy
title-talking = { $name } - ahoy
title-ended = Call with { $name } ended - ahoy
calls-you = { $name } calls you
call-has-ended = The call has ended

## How a call ended

ended-missed-busy = { $name } called while you were in another call.
ended-missed = You missed a call from { $name }.
ended-declined-own-device = Declined on another of your devices.
ended-you-hung-up = You hung up.
ended-they-hung-up = { $name } hung up.
ended-you-declined = You declined the call from { $name }.
ended-they-declined = { $name } declined.
ended-they-declined-elsewhere = { $name } declined on another device.
ended-busy = { $name } is in another call. Try again in a while.
ended-no-answer = { $name } did not answer.
ended-you-cancelled = You cancelled the call.
ended-they-gave-up = { $name } called and gave up.
ended-before-sound = { $name } answered, and hung up before any sound came.
ended-answered-own-device = Answered on another of your devices.
ended-unknown = The link of { $name } names no supernode, and { $name } was not found in this network. Where both are in one, ahoy has to run there and finding people in this network to be switched on at both; from anywhere else, ask for a link that names a supernode.
ended-offline = { $name } is not online at the supernodes in their link. Ask them whether ahoy runs, or for a new link.
ended-home-busy = The supernode of { $name } is overloaded. Try again in a minute.
ended-no-route = No supernode of { $name } answers. Check your own connection, then ask for a new link.
ended-untrusted = A supernode gave a false answer about { $name }, so nothing was sent. Ask { $name } for a new link in person.
ended-private = { $name } is in a private network, and this device is not let in there, or no longer. Ask whoever runs that network for an invite.
ended-flooded = Strangers flood the supernode of { $name }, so it asks for more work than is done for one call. Try again in a while, or have yourself added to their contacts.
ended-lost = The connection to { $name } was lost. Call again.
ended-impostor = Whoever answered could not prove to be { $name }, so nothing was said. Ask { $name } for a new link in person.
ended-media = Your sound could not be set up: see the message above, then call again.
ended-protocol = The program of { $name } said something that makes no sense. Update both sides.
ended-time-limit = The call with { $name } did not come about in the time you set.
ended-merged = You and { $name } called each other at once.

## Messages

details = Details
write-to = Write to { $name }
file = File
send-a-file = Send a file
message = Message
send = Send
nothing-written = Nothing written yet. What you write is sealed for { $name }'s devices, and waits for up to 14 days if they are off.
time-and-state = { $time } · { $state }
you-called-nobody-answered = You called, and nobody answered
you-said = You: { $line }
you-called = You called
delivery-queued = on its way
delivery-unknown = not sent: nothing says where { $name } can be found; it is kept here, and sent when ahoy runs
delivery-no-route = not sent: no home of { $name } answers; it is kept here, and sent when ahoy runs
delivery-no-box = not sent: no home keeps a mailbox for { $name }; it is kept here, and sent when ahoy runs
delivery-full = not sent: the mailboxes of { $name } take no more now; it is kept here, and sent when ahoy runs
delivery-untrusted = not sent: what the homes say about { $name } is not genuine; it is kept here, and sent when ahoy runs
delivery-waiting = waits at { $homes ->
        [one] 1 home
       *[other] { $homes } homes
    } until { $name } comes online
delivery-delivered = delivered
delivery-expired = not delivered: { $name } did not come online in 14 days
attach-many = That many files go at once, and no more.
attach-no-dialog = Your desktop has no dialog for files: drop the file on this window, or write where it is.
do-not-send = Do not send { $name }
path-to-file = /path/to/file
where-file-is = Where the file is
choose = Choose…
send-files = Send files
no-partner = To send a file, open the page of one of your contacts first.
drop-to-send = Drop to send to { $name }

## Files

open-folder = Open folder
accept = Accept
refuse = Refuse
pause = Pause
go-on = Go on
accept-all-the-same = Accept all the same
take-back = Take back
file-seconds = { $count } s
file-minutes = { $count } min
file-hours = { $count } h
file-pace = { $size }/s · { $left } left
file-own = { $size } · sent by you
file-theirs = { $size } · for you
file-percent = { $name }: { $percent } per cent
file-told-pace = { $told } · { $pace }
file-button = { $label }: { $name }
file-offers = { $person } offers { $size }; it is not fetched before you accept
file-fetches = { $person } fetches it: { $done } of { $size }
file-offered = offered; it moves when { $person } accepts and both of you are online
file-waits = { $done } of { $size }; it goes on when { $person } is online
file-false = { $done } of { $size }; what { $person } sends is not what was offered, and is not taken
file-from =
    { $done } of { $size }, from { $sources ->
        [one] 1 device
       *[other] { $sources } devices
    }
file-paused-why = { $done } of { $size }; { $why }
file-paused = paused at { $done } of { $size }
file-complete = complete, each byte verified
file-they-have-it = { $person } has it
file-not-wanted = not wanted
file-failed = it cannot be sent any more
bytes = { $count } bytes
kilobytes = { $count } kB
megabytes = { $count } MB
gigabytes = { $count } GB
file-taken-back = you took it back
file-they-refused = { $person } does not want it
file-too-large = it is larger than what you take
file-changed = the file was changed or taken away since it was offered
save-as = Save as…
not-kept = The file is not saved there: { $error }
no-save-dialog = your desktop has no dialog for that. It lies in its folder.

## Back from elsewhere

welcome-back = Welcome back
a-backup-file = A backup file
backup-brings = Brings contacts, messages and settings, too. Drop the file on this window, or write where it is.
path-to-backup = /path/to/backup
backup-file = Backup file
its-passphrase = Its passphrase
words-24 = 24 words
words-bring = They bring back who you are, or open a backup that was made for them. Alone, they make contacts see that you began anew.
words-hint = the words, with spaces between them
the-24-words = The 24 words
come-back = Come back
opening = Opening…
i-am-new = I am new here
another-device-of-yours = Another device of yours
looking-for-device = Your other device is being looked for…
same-digits-there = Does your other device show the same digits?
say-so-there = Say so there, and this device becomes one of yours. If they differ, say that there, too: somebody else has the link.
device-brings = There, in the settings under Devices, press Add a device, and bring its link here. Nothing has to be remembered, and both go on together.
pair-link = ahoy-pair:…
link-of-other-device = Link of your other device
join = Join
no-pair-link = That is no link of another device: it begins with ahoy-pair:
pair-no-route = Nobody waits behind that link: it was used, it has expired, the other device has stopped, or its supernode is not reached from here. Let it make another.
pair-not-let-in = The other device did not let this one in. Let it make another link, and compare the digits.
pair-too-late = Nobody said yes on the other device in time.
cannot-be-read = { $file } cannot be read: { $error }

## Sound

no-sound-built = This ahoy was built without sound devices.
test-failed = The test failed: { $error }.
heard-nothing = { $microphone } heard next to nothing: is it muted, or another one meant?
heard-you = { $microphone } heard you, { $decibels } dB below full scale at the loudest.
played-sound = { $speaker } played a sound.
devices = Devices
level = Level
level-of-microphone = Level of the microphone
play-a-sound = Play a sound
play-by-speaker = Play a sound by the speaker
ring-test = Ring
ring-by-device = Ring by the device for it
record-and-play = Record 3 seconds and play them
wait = Wait…
recording-speak = Recording: speak now
playing = Playing…
tests-wait = Tests wait until the call is over.
microphone-listens = The microphone listens while this page is open; nothing is sent.
microphone = Microphone
speaker = Speaker
calls-ring-by = Calls ring by
system-default = System default
system-default-is = System default ({ $device })
device-missing = Missing: { $device }
your-voice = Your voice
echo-cancellation = Echo cancellation
echo-cancellation-why = Others do not hear themselves from your speaker.
noise-suppression = Noise suppression
noise-suppression-why = Takes out fans, traffic and other steady noise.
gain-control = Automatic gain
gain-control-why = Makes a soft voice louder and a loud one softer.
high-pass = High-pass filter
high-pass-why = Takes out hum and rumble below the voice.
click-suppression = Click suppression
click-suppression-why = Softens keys that are struck while nobody speaks.
what-is-sent = What is sent
voice-gate = Voice gate
voice-gate-why = Sends silence while nobody speaks.
push-to-talk = Push to talk
push-to-talk-why = You are muted unless you hold the space bar.
music-mode = Music mode
music-mode-why = Sends sound as it is, in stereo; what is above does nothing.
what-you-hear = What you hear
reconnect-tone = Sound while reconnecting
reconnect-tone-why = Two soft knocks now and then while the connection is gone.

## Devices

speaks-no-more = It speaks for you no more. Supernodes hear of it now, contacts with the next call or message.
still-a-device = It is still one of your devices: { $why }
link-expired = The link has expired, and nobody was let in.
did-not-keep-rules = Whoever came did not keep to the rules. Nobody was let in, and the link is spent.
a-device = a device ({ $key }…)
my-devices = My devices
devices-are = Each of them speaks for you: calls ring on all, and contacts and what you write are on all.
one-more-device = One more device
device-lost = A device is lost or stolen
device-lost-what = Take it out above, from any device that you still have: calls and messages then go past it, and nobody takes it for you. What is on it already stays on it, behind its passphrase if it has one. If it was your last one, your 24 words begin anew on another.
backup = A backup
backup-is = One file with all that you are and have here: keys, contacts, messages, settings. It holds this device's keys: come back with it when this device is gone, not beside it.
make-backup-dots = Make a backup…
make-backup = Make the backup
backup-making = Being made…
backup-by-words = The 24 words open it
backup-by-words-why = Instead of a passphrase: whoever has the words can open it.
backup-passphrase = Passphrase for it
backup-passphrase-again = The same passphrase again
backup-differs = These are not the same.
backup-choose = Choose where the backup is kept
backup-no-dialog = Your desktop has no dialog for that: write where the file is to be.
backup-made = The backup is in { $file }, { $size } long. Keep it somewhere else than here.
backup-is-there = { $file } is there already: choose another name.
backup-short =
    { $least ->
        *[other] The passphrase is too short: { $least } characters at least, better five words that nobody knows.
    }
backup-no-words = This device does not hold the 24 words: use a passphrase.
backup-not-made = The backup was not made: { $error }
this-device-since = this device · since { $day }
another-device-since = another device · since { $day }
take-out = Take out
take-out-whom = Take out { $name }
take-out-means = It will speak for you no more, and cannot be let in again by itself. What is on it stays on it.
take-it-out = Take it out
keep-it = Keep it
pair-how = This device shows a link, the other one takes it, and both show six digits to compare.
add-a-device = Add a device
looking-for-place = A place to meet is being looked for…
pair-waiting = On the other device start ahoy, press I have ahoy already, and paste this link there. It holds for ten minutes and one device: show it to nobody else.
pair-qr = The link for your other device as a QR code
copy-the-link = Copy the link
pair-asked = { $who } wants to be one of your devices. Does it show
pair-asked-means = If so, it gets your contacts and speaks for you from now on. If not, somebody else has the link.
the-same-digits = The same digits
other-digits = Other digits
pair-giving = { $who } is given your contacts…
pair-done = { $who } is one of your devices now.
add-another-device = Add another device
try-again = Try again

## The echo test

echo-test = Echo test
echo-test-is = A call to yourself: it says a sentence, then plays back what you say, three seconds later. It needs no internet.
call-echo-test = Call the echo test

## How good a call is

quality-gap = No way to the other side works at the moment.
quality-lost-here = { $percent } % of the packets of { $name } are lost on their way to you.
quality-uneven = Sound of { $name } comes too late or unevenly: their network, or yours, is busy.
quality-lost-there = { $percent } % of your packets are lost on their way to { $name }.
quality-restored = { $percent } % of the packets of { $name } are lost on their way to you, and restored.
quality-thin = Your way to { $name } carries { $kbps } kbit/s only, so your voice has few bits.
quality-long = The way between you is long: { $millis } ms there and back.
quality-buffer = Packets of { $name } come unevenly, so their sound waits { $millis } ms here.
quality-good = Nothing limits this call.

## Home

contacts = Contacts
name-or-link = Name or link to call
call-somebody = Call somebody
name-or-link-hint = Name, or an ahoy: link
scan-code = Scan a QR code
scan-stop = Stop scanning
scan-is = Hold the code up to the camera. Nothing is sent, and the camera is off as soon as a link is read.
scan-no-link = There is no ahoy link in that code.
your-link = Your link: whoever has it can ask to call you
copy-link = Copy link
hide-qr = Hide QR code
show-qr = Show QR code
your-link-qr = Your link as a QR code
call-whom = Call { $name }
write = Write
requests = People you do not know want to reach you
look = Look
look-at-request = Look at the request of { $name }
no-supernode = No supernode yet: paste a friend's link to call, or start with --via
reachable =
    { $all ->
        [one] Reachable through 1 supernode
       *[other] Reachable through { $up } of { $all } supernodes
    }
looking-for-supernodes = Looking for your supernodes…
not-a-contact-name = Nobody in your contacts is called that. To reach somebody new, paste their ahoy: link.
is-supernode-link = That is a supernode's link. To register there, add it in the settings, under Network.
link-unusable = That link cannot be used: { $error }
today = Today
yesterday = Yesterday
monday = Monday
tuesday = Tuesday
wednesday = Wednesday
thursday = Thursday
friday = Friday
saturday = Saturday
sunday = Sunday
january = January
february = February
march = March
april = April
may = May
june = June
july = July
august = August
september = September
october = October
november = November
december = December
date = { $day } { $month } { $year }
moment = { $date }, { $time }
day-and-month = { $day } { $month }

## Calls of the last days

recent-missed = Missed
recent-outgoing = Outgoing
recent-declined-there = Declined there
recent-busy = Busy
recent-no-answer = No answer
recent-cancelled = Cancelled
recent-not-reached = Not reached
recent-failed = Failed
recent-declined-elsewhere = Declined on another device
recent-answered-elsewhere = Answered on another device
recent-declined = Declined
recent-incoming = Incoming
recent-rated = { $rating } of 5
recent-calls = Recent calls
show-fewer = Show fewer
show-all-calls = Show all calls
call-back = Call { $name } back
look-at = Look at { $name }

## Keys

keys-everywhere = Everywhere
keys-ringing = While it rings
keys-call = In a call
keys-are-chosen = To choose another letter or digit for something that a call offers, press the button with its key, and then the new one.
keys-usual = The usual keys
key-press = Press a key
key-press-for = Press the new key for: { $what }
key-change = { $what }: { $key }. Choose another key
key-unfit = Only letters from A to Z and digits can be chosen.
key-taken = { $key } does something else already: { $what }
key-tab = Tab
key-tab-does = To the next thing; with Shift to the one before
key-space = Space
key-space-does = Presses what has the frame around it
key-escape = Esc
key-escape-does = Closes what is open
key-settings = Ctrl + ,
key-search = Ctrl + K
key-search-does = Search, or paste a link
key-contacts = Ctrl + 1 … 9
key-contacts-does = Writes to the first, second … contact
key-file = Ctrl + O
key-file-does = Sends a file to whom you write to, or talk with
key-list = Ctrl + /
key-list-does = This list; so does ?
key-whole-screen = F11
key-whole-screen-does = The whole screen
key-quit = Ctrl + Q
key-quit-does = Ends ahoy
key-answers = Answers
key-answers-seen = Answers, and shows your camera
key-declines = Declines
key-declines-saying = Declines with a message
key-stops-calling = Stops calling
key-mutes = Mutes you, or not any more
key-camera = Camera on or off
key-shares = Shows a screen or a window
key-records = Records the call
key-holds = Puts the other side on hold
key-hangs-up = Hangs up
key-ignores = Hears no more of whoever else calls
key-other-does = Answers or declines whoever else calls
key-switches = Goes on with the call that is on hold
key-talks = Lets you be heard while it is held, with push to talk

## Lending

mbit-half = 0.5 Mbit/s
mbit-2 = 2 Mbit/s
mbit-10 = 10 Mbit/s
mbit-50 = 50 Mbit/s
people-10 = 10 devices
people-50 = 50 devices
people-200 = 200 devices
people-1000 = 1000 devices
lend = Lend your connection
lend-switch = Help others to call
lend-switch-why = This machine is a supernode for people who have none: it passes on what it cannot read.
lend-most = At most so much is passed on for others:
lend-people = For at most so many at once:
lend-metered = Also where it is paid by the byte
lend-metered-why = Otherwise nothing is lent while this machine is in such a network.
lending-off = You lend nothing.
lending-looking = Other supernodes are asked whether they reach this machine; nobody else is told of it yet.
lending-unreachable = Of { $asked } networks that were asked { $reached } reach this machine, so nobody is told of it: let UDP in at your router or firewall.
lending-now = Now: { $people } of at most { $most } devices registered, { $calls ->
        [one] 1 end of a call
       *[other] { $calls } ends of calls
    }, at most { $kbps } kbit/s.
lending-done = Since { $since } { $people ->
        [one] 1 person was
       *[other] { $people } people were
    } helped, and { $bytes } of their calls passed on.
lending-on = You lend: { $people ->
        [one] 1 person is
       *[other] { $people } people are
    } registered here, { $helped ->
        [one] 1 was
       *[other] { $helped } were
    } helped so far.
lending-busy = You lend, and all that you lend is in use: no new calls for the moment.
lending-metered = Nothing is lent while this machine is in a network that is paid by the byte.
lending-stopping = Those who use this machine are moving to others.
lending-failed = Lending does not start.

## The network, and the way of a call

station-supernode = a supernode
station-tcp = a supernode, by TCP
station-lan = your network
station-none = no way yet
station-you = You
now = Now
your-router = Your router
not-measured-yet = Not measured yet: that takes a supernode, and a few seconds.
family-line = { $family }: { $line }
standing-in = calls come in through it
standing-silent = does not answer
standing-away = { $millis } ms away
standing-lied = it showed something that nobody signed
standing-unknown = nothing is known of it yet
standing-words = of about { $all ->
        [one] 1 word
       *[other] { $all } words
    } it kept { $kept }
call-page-empty = Here stands how a call goes, while there is one: delays, losses, and what limits it.
last-five-minutes = The last five minutes
first-second = The first second is being measured…
copy-as-text = Copy as text
search-took = Looking for a direct way took { $packets } packets to { $flows } addresses so far.
way-of-sound = The way of the sound: { $stations }
plot-rtt = Round trip
plot-lost-here = Lost on the way to you
plot-lost-there = Lost on the way there
plot-restored = Restored
plot-invented = Invented sound
plot-buffer = Jitter buffer
plot-sent = Voice sent
plot-capacity = What the way there carries
plot-value = { $value } { $unit }
not-measured = not measured
nat-inside = It is in the same network; what stands between that and the internet cannot be seen from there.
nat-none = Nothing translates its packets; others see them as they are sent.
nat-several = Different people see you at different addresses: some calls stay on the relay.
nat-one-port = One outside port serves everybody: calls become direct with nearly all people.
nat-many-ports = Each person sees another outside port. Calls become direct with people whose own NAT is easier; with the rest they guess ports, and stay on the relay where that fails.
nat-unseen = With one supernode, and none of its other ports to be reached, there is no more to see.
nat-lets-known = Whoever knows the port gets through, at least from addresses that were written to.
nat-lets-written = Only those that were written to get through, as behind most routers: both sides of a call open the way.
nat-no-second-port = The supernodes have no second port to try it with.

## A person

sure-verified = Verified: you have compared safety words with { $name }. Should somebody else come in their place, that is taken back, and you are told.
sure-unverified = Not verified. In a call both of you see the same six words: read them to each other, and nobody can be in between. They belong to that call alone.
sure-doubtful = Careful: two lists of { $name }'s devices were seen that contradict each other. Either { $name } began anew with the same words, or somebody pretends to be them. Ask them by another way, then compare words again.
favourite = Favourite
favourite-why = Stands on top of the list.
their-calls = Their calls
ring-usual = Ring as usual
ring-always = Always ring
ring-never = Never ring
ring-usual-why = Unless you set not to be disturbed.
ring-always-why = Even while you set not to be disturbed.
ring-never-why = They are shown, without a sound.
what-they-learn = What they learn
hide-my-address = Hide my address
hide-address-why = Calls with this person go through supernodes only, a little later.
their-link = Their link, without where they are:
copy-their-link = Copy their link
stranger-is = Not one of your contacts: cannot ring, and is not told that you have read anything
rename = Rename
name-if-otherwise = Name, if you call them otherwise
what-they-are-called = What they are called
is-it-really = Is it really { $name }?
they-are-the-same = They are the same
they-differ = They differ
call-to-compare = Call to compare words
words-differed = Then hang up and say nothing that nobody else may hear: somebody may be between you. Give your link to each other by another way, and try again.
words-compared = Safety words compared
words-compared-why = You have read the words of a call to each other, and they were the same.
block = Block
block-them = Block them?
forget = Forget
forget-contact = Forget this contact?
put-away = Put away
put-away-really = Put away?
block-means = You hear nothing of them any more, and they are not told. In the settings, under Privacy, they can be unblocked; they are no contact then.
forget-means = They are a stranger then, and have to ask. What was written stays; whether words were compared does not.
keep-as-it-is = Keep as it is
voice-call = Voice call
video-call = Video call
messages = Messages
file-dots = File…
send-them-a-file = Send them a file

## Settings

not-saved = This is not saved: { $error }
keyring-needs-passphrase = the passphrase is needed for that: tick the box where ahoy asks for it, or say `ahoy lock keyring on`
tab-sound = Sound
tab-you = You
tab-devices = Devices
tab-privacy = Privacy
tab-network = Network
tab-call = Call
tab-look = Look
tab-keys = Keys
waits-for-start = Some of what you chose holds from the next start of ahoy on.
settings-being-read = The settings are being read…
name-stands = Stands in your link, and people who do not know you see it when you call.
your-card = Your card
first-steps = First steps
first-steps-are = Name, sound check and card, one after the other.
show-again = Show them again
how-calls-get-through = How calls get through
supernodes-of-choice = Supernodes of your choice
supernodes-are = Where you register, so that calls find you. Anybody can run one and give you its link.
remove-what = Remove { $what }
node-link-hint = ahoy-node:… link
link-of-supernode = Link of a supernode
add = Add
proxy = Proxy
proxy-is = What TCP connections to supernodes go through; empty: as the system says; none: nothing.
proxy-hint = socks5://host:port
save-proxy = Save the proxy
colours = Colours
as-the-system = As the system
dark = Dark
light = Light
scale-title = Size
size-is = Of everything: text, buttons and gaps.
size-of-everything = Size of everything
language-title = Language
the-window = The window
no-link-yet = You have no link yet: it comes as soon as a supernode answers, or somebody in your network can be told.
card-is = Whoever has this link can ask to call you. Send it, or let a telephone read the picture.
copy-your-link = Copy your link
is-person-link = That is a person's link: a supernode's begins with ahoy-node:
no-supernode-link = That is no supernode's link: { $error }
port-mapping = Ask the router for a port
port-mapping-why = Calls more often go directly, by PCP, NAT-PMP or UPnP.
lan-discovery = Find people in this network
lan-discovery-why = Calls within it need no supernode and no internet.
guess-ports = Guess ports
guess-ports-why = A direct way through stubborn routers, for some hundred packets.
directory = Supernodes find people
directory-why = Leave word of where you are at other supernodes, and ask them for others.
dht = The public table finds people
dht-why = Its nodes see your address, and whom you look for.
dht-publish = Be found by the public table
dht-publish-why = Its nodes, which may be anybody's, see which address you have.
accept-files = Take files without asking
accept-files-why = What contacts offer comes at once, into your folder for downloads.
call-waiting = Let others wait
call-waiting-why = Who calls while you talk can be answered or declined; else they hear that you are busy.
keyring = The desktop's keyring opens this profile
keyring-why = Whoever has logged in is not asked for its passphrase, which opens it all the same.
keep-running = Ring while the window is closed
keep-running-why = Closing it only hides it: start ahoy again to see it, and Ctrl+Q ends it.
autostart = Start with the session
autostart-why = Without a window, which opens when somebody calls.
strangers-ask = Ask first
strangers-ask-why = Strangers wait among the requests, silently.
strangers-ring = Ring
strangers-ring-why = Strangers ring like anybody.
strangers-drop = Nobody
strangers-drop-why = Strangers find nobody here, and you do not hear of them.
automatic = Automatic
path-auto-why = Through a supernode at once, directly as soon as that works.
path-relay-why = Only through supernodes: the other side never learns where you are.
path-direct-only = Direct only
path-direct-why = Never through a supernode; where there is no direct way there is no call.
path-tcp-only = TCP only
path-tcp-why = Only through supernodes and by TCP, where nothing else is let through.
when-strangers-call = When somebody calls whom you do not know
while-you-talk = While you talk
ways-calls-take = Ways that calls take
finding = Finding and being found
files = Files
what-opens-profile = What opens this profile
messages-and-history = Messages and history
history-is = What you write waits sealed at the supernodes of the other side until their device takes it. What is written and whom you called stays in this profile.
blocked-people = Blocked people
nobody-blocked = You have blocked nobody.
blocked-means = They are not told, and reach nobody here. Once unblocked they are strangers, who have to ask.
unblock = Unblock
unblock-whom = Unblock { $name }

## What is shown to the other side

way-text = Text
way-motion = Motion
they-see = { $name } sees { $what }
stop-showing = Stop showing it
bar-title = ahoy: what you show
hide-bar = Hide this bar
with-sound = With sound
with-sound-why = What other programs play is heard too
how-screens-are-sent = How screens and windows are sent
judged-text = By what is to be seen: text or a still now, so sharp.
judged-motion = By what is to be seen: it moves now, so smoothly.
judged-nothing = By what is to be seen: text sharp, what moves smoothly.
sent-as-text = Sharp, and full size before many pictures.
sent-as-motion = Smoothly, and many pictures before full size.
screens = Screens
windows = Windows
cameras = Cameras
looking-for-screens = Looking for screens and windows…
no-other-window = No other window is open.
your-camera = your camera
the-test-pattern = the test pattern
a-film = a film
your-window = your window “{ $window }”
one-of-your-windows = one of your windows
your-screen = your screen
show-what = Show { $what }

## The menu in the tray

tray-show = Show the window
tray-quit = Quit

## Who can be reached

presence-switch = Contacts see whether you can be reached
presence-switch-why = And you see it of them. Their devices are asked while this window is open, by a sealed question that only they can open; contacts alone are answered. A home of theirs sees what it sees of a call: that somebody asked for them, and from which address. Off: you neither answer nor ask. Whom your address is hidden from is not asked.
your-contacts = Your contacts
is-reachable = Can be reached now
is-away = Cannot be reached now
is-reachable-now = { $name } can be reached now
is-away-now = { $name } cannot be reached now

## What went wrong

trouble-disk-full = the disk is full: make room
trouble-disk-denied = the system does not allow it: choose another folder, or change what is allowed there
trouble-disk-read-only = nothing can be written there: choose another folder
trouble-disk-missing = there is no such file or folder
trouble-disk-other = the system says: { $error }
trouble-file-full = the disk is full: make room and let it go on
trouble-file-disk = { $path } cannot be written: { $why }
trouble-file-names = too many files in { $folder } are called so
trouble-file-unreadable = { $path } cannot be read: { $why }.
trouble-no-file = { $path } is no file.
trouble-file-larger = { $path } is larger than any file that can be sent: { $most } at most.
trouble-disk-busy = The disk is busy. Try again.
trouble-too-many-files = Too many files are on their way to this person: cancel some.
trouble-unknown-file = That file is not on its way any more.
trouble-own-file = A file of yours can only be cancelled, and before it has arrived.
trouble-file-complete = That file is all there.
trouble-file-was-refused = You did not want that file, and { $person } knows. Ask to be sent it again.
trouble-no-folder = There is no folder for files: set download_folder in settings.toml.
trouble-file-still = That file does not move.
trouble-link-empty = it is empty
trouble-link-long = it is longer than any link; was something pasted after it?
trouble-link-space = there is a space or a line break in it; copy it again in one piece
trouble-link-none = a person's begins with ahoy: and a supernode's with ahoy-node:
trouble-link-slashes = write ahoy: without slashes
trouble-link-case = write its beginning in lower case
trouble-link-person-wanted = it is a supernode's; ask for the one that begins with ahoy:
trouble-link-node-wanted = it is a person's; a supernode's begins with ahoy-node:
trouble-link-cut = its key has { $count } characters instead of { $all }; was it cut off?
trouble-link-character = { $character } cannot occur in a key; copy it instead of typing it
trouble-link-mistyped = its key is mistyped; copy it instead of typing it
trouble-link-newer = a newer ahoy made it; update to use it
trouble-link-damaged = a part of it ({ $part }) is damaged; copy it again
trouble-link-home = the address of a supernode in it is wrong; copy it again
trouble-link-node = it is written ahoy-node:KEY@HOST:PORT; copy it again
trouble-link-invite = the invite in it is damaged, or over; ask for a new one
trouble-name-unknown = No contact is called { $name }.
trouble-name-several = Several contacts are called { $name }: give one of them another name.
trouble-own-link = That is your own link: ask the other person for theirs.
trouble-own-link-add = That is your own link: give it to others.
trouble-node-link = That is a supernode's link: a person's begins with ahoy:
trouble-no-contact = That person is no contact of yours.
trouble-declined-silently = Only contacts are written to: the call was declined without a word.
trouble-no-name = A contact needs a name.
trouble-profile = The profile cannot be written or read: { $error }.
trouble-not-saved = This holds until ahoy is closed, and could not be saved: { $error }.
trouble-rescued = The profile's database was damaged. It is kept as { $file }; { $read } of its entries could be read, { $added } more come from a copy, and messages may be missing.
trouble-no-echo = The echo test does not begin: { $error }.
trouble-in-call = There is a call already: hang up first.
trouble-no-call = There is no such call any more.
trouble-not-ringing = The call does not ring here any more.
trouble-not-talking = A call can be recorded once you talk: the other side has to be told.
trouble-no-words = This call has no safety words: the other side broke the exchange behind them. Somebody may sit between you; do not trust this call.
trouble-media = Your sound cannot be set up: { $error }.
trouble-device-none-microphone = No microphone was found: plug one in.
trouble-device-none-speaker = No speaker was found: plug one in.
trouble-device-away = The chosen device is not there: plug it in or choose another one.
trouble-device-busy = The device is in use by another program: close that one or choose another device.
trouble-device-denied = The system does not let ahoy use the device: allow it in its privacy settings.
trouble-device-format = The device offers no sound format that can be used ({ $format }): choose another one.
trouble-device-lost = The device went away.
trouble-device-stalled = The device has stopped working.
trouble-sound-hung = The sound system does not answer: restart it, or the machine.
trouble-sound-system = The sound system fails: { $error }.
trouble-microphone-lost = Your microphone: { $why }
trouble-speaker-lost = Your speaker: { $why }
trouble-microphone-open = Your microphone is { $device }.
trouble-speaker-open = Your speaker is { $device }.
trouble-microphone-gone = The chosen microphone is gone, and nothing takes its place: plug it in or choose another one.
trouble-speaker-gone = The chosen speaker is gone, and nothing takes its place: plug it in or choose another one.
trouble-microphone-displaced = The system may have used another microphone for a moment; the chosen one is back.
trouble-speaker-displaced = The system may have used another speaker for a moment; the chosen one is back.
trouble-microphone-follows = Your microphone is now { $device }, as the system says.
trouble-speaker-follows = Your speaker is now { $device }, as the system says.
trouble-others-need-devices = What other programs play is heard only in calls with a microphone or a speaker.
trouble-others-unheard = What other programs play cannot be heard: { $why }.
trouble-picture-black = Your screen is black to the other side: under Wayland, a program sees by itself only windows of X11 programs. Choose the screen in your desktop's dialog instead.
trouble-picture-unseen = The other side shows no pictures, so none are sent. You are heard all the same.
trouble-picture-codec = The other side shows no pictures in a format of ours, so none are sent. You are heard all the same; one of you should update ahoy.
trouble-picture-not-encoded = Your picture is not sent ({ $error }). That is tried again with each one.
trouble-picture-undecodable = A picture of the other side cannot be decoded, so the last one stays; a new one is asked for. If that goes on, one of you should update ahoy.
trouble-picture-stuck = Your picture is not sent at the moment: the connection carries too little for it, or this machine is busy. You are heard, and it comes back by itself.
trouble-picture-not-built = This ahoy was built without pictures.
trouble-picture-not-yet = Pictures can be shown once you talk.
trouble-picture-nobody = The other side shows no pictures. You are heard all the same.
trouble-picture-open = That cannot be shown: { $error }.
trouble-no-camera = No camera is plugged in, so the other side does not see you. It will as soon as there is one.
trouble-camera-away = The camera { $camera } is not plugged in, so the other side does not see you. It will as soon as it is.
trouble-camera-unknown = The camera { $camera } is not plugged in, so the other side does not see you. There are: { $there }.
trouble-camera-several = Several cameras are called { $camera }, so none is used. Choose one of { $several }.
trouble-camera-unplugged = The camera { $camera } was unplugged, so the other side does not see you. Plug it in again, and it will.
trouble-camera-denied = You may not use { $camera }, so the other side does not see you. Join the group that owns it (sudo usermod -aG video $USER), then log in anew.
trouble-camera-busy = The camera { $camera } is used by another program, so the other side does not see you. Close that one, and it will.
trouble-camera-broken = The camera { $camera } does not work ({ $error }), so the other side does not see you. It is tried again; if that does not help, plug it out and in.
trouble-camera-format = The camera { $camera } gives pictures that are not understood ({ $given }), so the other side does not see you. Choose another camera.
trouble-camera-silent = The camera { $camera } gives no pictures, so the other side does not see you. It is tried again; is its cover closed, or its key for privacy pressed?
trouble-no-screens = Screens can be shown on Linux only so far, so the other side sees nothing.
trouble-no-display-wayland = There is no display of X11 here, so the other side sees nothing. Choose the screen in your desktop's dialog, or log in to a session with X11.
trouble-no-display = There is no display to show (is DISPLAY set, and may you use it?), so the other side sees nothing. It is looked for again.
trouble-display-lost = The display is gone or does not answer, so the other side sees nothing of it. It is looked for again.
trouble-display-refuses = The display refuses to be read, so the other side sees nothing of it. That is tried again.
trouble-screen-number = This screen cannot be shown: it has no such number.
trouble-screen-depth = This screen cannot be shown: its pixels have { $depth } bits. Choose a depth of 24 in the settings of the display.
trouble-screens-size = All screens together are too large to be shown: choose one of them.
trouble-screen-size = This has a size that cannot be shown: make it larger or smaller.
trouble-screen-unknown = There is no screen { $screen }, so the other side sees nothing until there is. There are: { $there }.
trouble-window-unknown = No window is called “{ $window }”, so the other side sees nothing until there is one.
trouble-window-several = Several windows are called “{ $window }”, so the other side sees none. Choose one of { $several }.
trouble-window-closed = The window “{ $window }” was closed, so the other side sees nothing new of it. It is shown again as soon as there is one by that name.
trouble-window-closed-for-good = The window “{ $window }” was closed, so the other side sees nothing new of it. Choose another one.
trouble-window-hidden = The window “{ $window }” is minimised, so the other side sees nothing new of it until you open it again.
trouble-locked = Your screen is locked or asleep, so the other side sees nothing new of it until you are back.
trouble-no-portal = Your desktop has no way for programs to show its screens, so the other side sees nothing. Install xdg-desktop-portal with the part for your desktop, and PipeWire, or log in to a session with X11.
trouble-not-picked = Nothing was picked in your desktop's dialog, so the other side sees nothing. Share again to be asked again.
trouble-share-ended = Your desktop ended the showing, so the other side sees nothing any more. Share again to go on.
trouble-portal-format = Your desktop gives no pictures that ahoy understands, so the other side sees nothing. Tell us which desktop it is.
trouble-film = No more pictures are sent: { $error }.
trouble-recorded-already = This call is recorded already.
trouble-other-recorded = The call that is on hold is recorded: switch to it and end that first.
trouble-record-exists = There is a file { $path } already, and nothing is recorded over it: choose another name.
trouble-record-create = The recording { $path } cannot be created: { $why }.
trouble-record-write = The recording { $path } has stopped: { $why }. What was recorded until then is kept.
trouble-record-other = Nothing is recorded: { $error }.
trouble-nothing-to-say = There is nothing to say in that message.
trouble-outbox-full = Too many messages wait here to be sent. Try again when some have gone.
trouble-message-not-kept = The message cannot be kept, and is not sent: { $error }.
trouble-files-to-contacts = Files go to contacts alone: add this person first.
trouble-cannot-lend = This ahoy cannot lend anything.
trouble-no-pass = A supernode serves a private network only: ask for an invite, and join it.
trouble-pass-foreign = A supernode serves another private network than the one that you are in.
trouble-pass-expired = Your invite to the private network has expired: ask for a new one.
trouble-pass-revoked = Your invite to the private network was taken back.
trouble-pass-taken = Your invite to the private network was used by somebody else before. Say so to whoever made it, and ask for a new one.
trouble-pass-wrong = The pass to the private network is not this device's.
trouble-supernode-refuses = A supernode does not let this device in: { $error }.
trouble-pass-over = Your invite to the private network has ended: nobody there can call you, or be called. Ask whoever runs it for a new one.
trouble-taken-out = Another device of yours took this one out: it no longer speaks for you, and nobody is reached from here.
trouble-own-fork = There are two lists of your own devices that contradict each other: somebody else has your key or one of your devices. Make a new identity and tell your contacts.
trouble-fork = The device list of { $name } contradicts the one seen before: somebody may be posing as { $name }. Ask them by another way. The proof is kept.
trouble-unwitnessed = No supernode has signed the device list of { $name }, although it is hours old. That is so where their supernodes are of an older version, or where somebody shows it to you alone. Compare the safety words in the call.
trouble-pass-ends =
    { $days ->
        [one] Your invite to the private network ends in { $days } day: ask whoever runs it for a new one before.
       *[other] Your invite to the private network ends in { $days } days: ask whoever runs it for a new one before.
    }
trouble-contradicted =
    { $networks ->
        [one] There are two device lists of { $name }, and supernodes in { $networks } network have signed the one that their newest record does not speak of: somebody may be posing as { $name }. Compare the safety words in the call, or ask them by another way.
       *[other] There are two device lists of { $name }, and supernodes in { $networks } networks have signed the one that their newest record does not speak of: somebody may be posing as { $name }. Compare the safety words in the call, or ask them by another way.
    }
trouble-behind =
    { $networks ->
        [one] Supernodes in { $networks } network have signed a longer device list of { $name } than the newest record speaks of: it may lead to a device that { $name } has taken out. Ask them by another way.
       *[other] Supernodes in { $networks } networks have signed a longer device list of { $name } than the newest record speaks of: it may lead to a device that { $name } has taken out. Ask them by another way.
    }

## A locked profile

profile-is-locked = This profile is locked
passphrase = Passphrase
open = Open
keep-in-keyring = Let the desktop's keyring open it from now on
trying-failed = Trying it failed.
wrong-passphrase = That is not the passphrase. Nothing was changed.
locked-means = Your contacts, messages and keys are sealed on this device. Nobody can recover a passphrase that is forgotten.

## The first minute

step-name = What are you called?
step-sound = Does your sound work?
step-camera = Are you seen well?
step-card = This is your card
step-of = Step { $number } of { $all }
sound-step-is = Speak, and watch the level move. Record three seconds to hear yourself as others will.
camera-step-is = You see yourself as in a mirror. Nothing is sent, and the camera is off as soon as you go on.
mirror-opens = Looking for a camera…
mirror-missing = There is no camera here. Calls work without one; plug one in, and it is seen here.
mirror-denied = You may not use the camera. Join the group that owns it (on most systems: video), then log in anew.
mirror-busy = Another program uses the camera. End it there, and the picture comes here.
mirror-gone = The camera was pulled out. Plug it in again.
mirror-failed = The camera gives no picture. Plug it in anew, or choose another one.
name-step-is = People whom you call see it. There is no account: who you are is a key that was made just now and stays on this device.
next = Next
skip-all = Skip all
i-have-ahoy = I have ahoy already
